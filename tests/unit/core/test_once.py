"""``once_per_node=`` where it is written: what it takes, and what it refuses."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HOOK_POINTS, Hook, HookRegistry, HookSignatureError, RayServeLLMCallback, hook_options
from serve_llm_hooks._sources.class_style import hooks_of_class

if TYPE_CHECKING:
    from collections.abc import Iterator

ON_NODES = [row.name for row in HOOK_POINTS.values() if row.on_node and row.during == "start"]


def decorate(fn: Any, point: Any = "on_before_node_download", **options: Any) -> Hook:
    registry: Any = HookRegistry()  # as an untyped script sees it
    registry.hook(point, **options)(fn)
    hook: Hook = next(iter(registry))
    return hook


def fetch(ctx: Any) -> None: ...


@pytest.mark.parametrize("point", ON_NODES)
@pytest.mark.parametrize("given", [True, False, "weights", "weights-{model_id}-{{v3}}"])
def test_on_nodes(point: str, given: bool | str) -> None:
    def fetches(ctx: Any) -> None: ...

    assert decorate(fetches, point, once_per_node=given).options.once_per_node == given


@pytest.mark.parametrize(
    "row", [row for row in HOOK_POINTS.values() if row.name not in ON_NODES], ids=lambda row: row.name
)
def test_not_elsewhere(row: Any) -> None:
    with pytest.raises(ValueError, match="once_per_node=") as caught:
        decorate(fetch, row.name, once_per_node=True)
    assert row.name in str(caught.value)
    assert str(caught.value).endswith("leave it out" if row.on_node else ", ".join(ON_NODES))


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ("", ValueError, "once_per_node='' names nothing: once_per_node=True is once per rollout"),
        ("  ", ValueError, "names nothing"),
        ("w-{model}", ValueError, "has the placeholder {model}: the only one is {model_id}"),
        ("w-{}", ValueError, "has the placeholder {}"),
        ("w-{model_id!r}", ValueError, "has the placeholder {model_id!r}"),
        ("w-{model_id:>9}", ValueError, "has the placeholder {model_id:>9}"),
        ("w-{model_id", ValueError, "cannot be read"),
        (1, TypeError, "once_per_node= is True or a text, not 1"),
        (None, TypeError, "once_per_node= is True or a text, not None"),
        (["a"], TypeError, "once_per_node= is True or a text, not"),
    ],
)
def test_what_it_is_not(given: Any, kind: type[Exception], said: str) -> None:
    with pytest.raises(kind) as caught:
        decorate(fetch, once_per_node=given)
    assert said in str(caught.value)


def test_a_span_is_refused() -> None:
    def mounted(ctx: Any) -> Iterator[None]:
        yield

    with pytest.raises(HookSignatureError, match="has a `yield`, which holds something in one process"):
        decorate(mounted, once_per_node=True)


def test_it_travels_with_the_hook() -> None:
    hook = decorate(fetch, once_per_node="w", timeout_s=3)
    assert pickle.loads(pickle.dumps(hook)).options == hook.options


# -- in a class -------------------------------------------------------------------------------------------------------


class Caches(RayServeLLMCallback):
    @hook_options(once_per_node="caches", timeout_s=60)
    async def on_before_node_download(self, ctx: Any) -> None: ...


def test_a_method_has_it_too() -> None:
    (found,) = hooks_of_class(Caches)
    assert (found.options.once_per_node, found.options.timeout_s) == ("caches", 60)


def test_a_method_with_a_yield_is_refused() -> None:
    with pytest.raises(HookSignatureError, match=r"Mounts\.on_before_node_download at on_before_node_download has a"):

        class Mounts:
            @hook_options(once_per_node=True)
            def on_before_node_download(self, ctx: Any) -> Iterator[None]:
                yield
