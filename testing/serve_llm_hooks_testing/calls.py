"""One hook, and no cluster at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HOOK_POINTS, CallbackCtx, DownloadMode, Hook, NodeCtx, NodeResult
from serve_llm_hooks._core.context import set_read_only
from serve_llm_hooks._core.dispatch import Dispatcher
from serve_llm_hooks._core.hook import marked_hooks
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._core.points import hook_point

from .clock import VirtualLoop
from .config import FakeLLMConfig
from .errors import HarnessError
from .start import in_event_loop, tell
from .watch import Watch, watching

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serve_llm_hooks import HookName, Skip

__all__ = ["acall_hook", "call_hook", "callback_ctx", "node_ctx"]


def callback_ctx(
    model_id: str = "test-model",
    *,
    llm_config: Any = None,
    nodes: Mapping[str, NodeResult] | None = None,
    engine: Any = None,
    error: Exception | None = None,
    **fields: Any,
) -> CallbackCtx:
    """What a hook in the replica is given, with any field set, read-only ones included.

    Args:
        model_id: the model.
        llm_config: the config; left out, a :class:`FakeLLMConfig` for the model.
        nodes: what ``ctx.nodes`` holds, as after the downloads.
        engine: what ``ctx.engine`` is, as from ``on_after_engine_init`` on.
        error: what ``ctx.error`` is, as in ``on_failure``.
        fields: all other fields of ``CallbackCtx``.

    Example:
        >>> ctx = callback_ctx("llama-2-7b", custom_data={"bucket": "s3://b"})
        >>> ctx.model_id, ctx.custom_data["bucket"]
        ('llama-2-7b', 's3://b')
    """
    config = FakeLLMConfig(model_id, hooks=[]) if llm_config is None else llm_config
    ctx = CallbackCtx(llm_config=config, **fields)
    set_read_only(ctx, nodes=dict(nodes or {}), engine=engine, error=error)
    return ctx


def node_ctx(
    model_id: str = "test-model",
    *,
    node_id: str = "node-0",
    is_local: bool = True,
    download_model: DownloadMode | str = DownloadMode.MODEL_AND_TOKENIZER,
    custom_data: dict[str, Any] | None = None,
    model_path: str | None = None,
    llm_config: Any = None,
) -> NodeCtx:
    """What a hook on a node is given.

    Example:
        >>> node_ctx("llama-2-7b", node_id="node-1", is_local=False).is_local
        False
    """
    return NodeCtx(
        model_id=model_id,
        node_id=node_id,
        is_local=is_local,
        download_model=DownloadMode.of(download_model),
        custom_data={} if custom_data is None else custom_data,
        model_path=model_path,
        load_llm_config=lambda: FakeLLMConfig(model_id, hooks=[]) if llm_config is None else llm_config,
    )


def call_hook(
    fn: Callable[..., Any], ctx: CallbackCtx | NodeCtx, *, point: HookName | None = None, **kwargs: Any
) -> Skip | None:
    """Call one hook as a run would: sync or async, with its timeout, in virtual time.

    Args:
        fn: a decorated function.
        ctx: what it is given: :func:`callback_ctx` or :func:`node_ctx`.
        point: which point, for a function that is a hook at several.
        kwargs: the hook's own parameters.

    Returns:
        The veto, if it vetoed.

    Raises:
        HookError: it failed; what it raised is the ``__cause__``. Kinds of it: a timeout, a meaningless result.
        HarnessError: it is no hook, or none for this kind of ``ctx``.
        UnknownHookError: there is no such ``point``.

    Example:
        >>> from serve_llm_hooks import HookRegistry, skip
        >>> @HookRegistry().hook("on_before_node_download")
        ... def baked_in(ctx, *, folder):
        ...     ctx.model_path = folder
        ...     return skip("baked into the image")
        >>> ctx = node_ctx()
        >>> call_hook(baked_in, ctx, folder="/opt/model")
        Skip(reason='baked into the image')
        >>> ctx.model_path
        '/opt/model'
    """
    if in_event_loop():
        raise HarnessError("call_hook() was called inside a running event loop: write `await acall_hook(...)` there")
    return _call(_hook_for(fn, ctx, point, kwargs), ctx)


async def acall_hook(
    fn: Callable[..., Any], ctx: CallbackCtx | NodeCtx, *, point: HookName | None = None, **kwargs: Any
) -> Skip | None:
    """The same from an async test.

    Example:
        >>> import asyncio
        >>> from serve_llm_hooks import HookRegistry
        >>> @HookRegistry().hook("on_after_init")
        ... async def announce(ctx):
        ...     await asyncio.sleep(60)
        >>> asyncio.run(acall_hook(announce, callback_ctx()))
    """
    return await asyncio.to_thread(_call, _hook_for(fn, ctx, point, kwargs), ctx)


def _call(hook: Hook, ctx: CallbackCtx | NodeCtx) -> Skip | None:
    watch = Watch(1.0)
    node_id = ctx.node_id if isinstance(ctx, NodeCtx) else None

    async def call() -> Skip | None:
        async with Dispatcher(ctx.model_id, trace=None, node_id=node_id) as dispatcher:
            return await dispatcher.run_point([hook], ctx)

    error: Exception | None = None
    veto: Skip | None = None
    with watching(watch):
        loop = watch.loop = VirtualLoop(real_sleep_limit_s=watch.limit_s, on_block=watch.blocked)
        try:
            veto = loop.run_until_complete(call())
        except Exception as failure:
            error = failure
            watch.failed()
        finally:
            loop.finish()
    tell(watch.notes, error)
    return veto


def _hook_for(
    fn: Callable[..., Any], ctx: CallbackCtx | NodeCtx, point: HookName | None, kwargs: Mapping[str, Any]
) -> Hook:
    """The hook that a function is at a point that fits the ctx."""
    name = getattr(fn, "__qualname__", repr(fn))
    hooks = list(marked_hooks(fn))
    if not hooks and point is None:
        raise HarnessError(f'{name} is no hook: decorate it with @hook("on_..."), or say point="on_..." here')
    if point is not None:
        hook_point(point)
        hooks = [hook for hook in hooks if hook.point == point] or [Hook(fn, HookOptions(point))]
    on_node = isinstance(ctx, NodeCtx)
    fitting = [hook for hook in hooks if HOOK_POINTS[hook.point].on_node == on_node]
    points = ", ".join(hook.point for hook in fitting or hooks)
    if not fitting:
        wanted = "callback_ctx()" if on_node else "node_ctx()"
        raise HarnessError(f"{name} is a hook at {points}, which is given another kind of ctx: {wanted}")
    if len(fitting) > 1:
        raise HarnessError(f"{name} is a hook at {points}: say which one is meant, with point=")
    return fitting[0].bind(kwargs)
