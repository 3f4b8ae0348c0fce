"""The decorated function keeps its own type: nothing of it is lost on the way through the decorator."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, assert_type

from serve_llm_hooks import CallbackCtx, HookRegistry, NodeCtx, hook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator


@hook("on_before_init")
def sync_hook(ctx: CallbackCtx) -> bool:
    return True


@hook("on_before_init")
async def async_hook(ctx: CallbackCtx) -> bool:
    return True


@hook("on_before_node_download", model_id=["a", "b*"], order=-1, before="x", after=("y",), timeout_s=3, on_error="warn")
def with_parameters(ctx: NodeCtx, *, bucket: str, retries: int = 3) -> bool | None:
    return None


@hook("on_after_init")
@hook("on_failure")
def at_two_points(ctx: CallbackCtx) -> None: ...


@hook("on_before_init")
@hook("on_after_init")
def also_where_it_could_veto(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", until="on_before_engine_init")
def span(ctx: CallbackCtx) -> Iterator[None]:
    yield


@hook("on_before_download", until="on_shutdown")
async def span_that_may_veto(ctx: CallbackCtx) -> AsyncIterator[bool]:
    yield False


@hook("on_after_node_download")
def span_on_a_node(ctx: NodeCtx) -> Generator[None, None, None]:
    yield


class Warmup:
    """A hook may be an object that is called."""

    prompts: tuple[str, ...] = ("Hello",)

    async def __call__(self, ctx: CallbackCtx) -> None: ...


warmup = hook("on_after_engine_init")(Warmup())

private = HookRegistry()


@private.hook("on_after_node_download", model_id=None)
async def of_a_private_registry(ctx: NodeCtx, *, folder: str) -> None: ...


def returns_an_awaitable(ctx: CallbackCtx) -> Awaitable[None]:
    return at_once(ctx)


async def at_once(ctx: CallbackCtx) -> None: ...


hook("on_after_init")(returns_an_awaitable)


async def use(ctx: CallbackCtx, node: NodeCtx) -> None:
    assert_type(sync_hook(ctx), bool)
    assert_type(await async_hook(ctx), bool)
    assert_type(with_parameters(node, bucket="b"), bool | None)
    assert_type(warmup.prompts[0], str)
    await of_a_private_registry(node, folder="/models")
    at_two_points(ctx)
    also_where_it_could_veto(ctx)

    keeps_its_signature: Callable[[CallbackCtx], bool] = sync_hook
    bound: Callable[[NodeCtx], bool | None] = partial(with_parameters, bucket="b")
    print(keeps_its_signature, bound)


def base_ctx(ctx: Any) -> None: ...


hook("on_after_init")(base_ctx)
hook("on_after_node_download")(base_ctx)
