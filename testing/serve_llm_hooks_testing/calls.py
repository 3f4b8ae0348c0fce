"""Call one hook, without a cluster."""

from __future__ import annotations

import asyncio
from types import EllipsisType, MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from serve_llm_hooks import HOOK_POINTS, CallbackCtx, DownloadMode, EngineProcessCtx, Hook, NodeCtx, NodeResult
from serve_llm_hooks._core.context import set_read_only
from serve_llm_hooks._core.dispatch import Dispatcher
from serve_llm_hooks._core.hook import marked_hooks
from serve_llm_hooks._core.messages import text_of
from serve_llm_hooks._core.node import Node
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._core.points import hook_point

from ._apart.state import in_process
from ._monitor.session import monitored_loop
from ._simulation.arguments import check_process
from ._simulation.lone_hook import as_in_a_run, beside_others, forget_path, settings_of
from ._simulation.made_up import made_up_node
from ._simulation.process_states import ProcessStates
from ._virtual_time.loop import is_loop_running
from .config import FakeLLMConfig
from .engine import EngineForHooks, FakeEngine
from .errors import HarnessError, warn_and_raise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from serve_llm_hooks import HookName, Skip
    from serve_llm_hooks._core.points import Role

    from ._apart.state import ProcessState

    Ctx: TypeAlias = CallbackCtx | NodeCtx | EngineProcessCtx

_MAKERS = {"CallbackCtx": "callback_ctx()", "NodeCtx": "node_ctx()", "EngineProcessCtx": "engine_process_ctx()"}


def callback_ctx(
    model_id: str = "test-model",
    *,
    llm_config: Any = None,
    nodes: Mapping[str, NodeResult] | None = None,
    engine: Any = None,
    error: Exception | None = None,
    **fields: Any,
) -> CallbackCtx:
    """Make the context of a hook in the replica, with any field set, read-only ones included.

    What is not set is as in a run: ``runtime_env`` and ``placement_group`` of the config, and behind the download, the
    ``model_path`` that it gives.

    Args:
        model_id: the model.
        llm_config: the config. Default: a :class:`FakeLLMConfig` for the model.
        nodes: ``ctx.nodes``, as after the downloads.
        engine: ``ctx.engine``, as from ``on_after_engine_init`` on: a :class:`FakeEngine`.
        error: ``ctx.error``, as in ``on_failure``.
        fields: all other fields of ``CallbackCtx``.

    Example:
        >>> ctx = callback_ctx("llama-2-7b", custom_data={"bucket": "s3://b"})
        >>> ctx.model_id, ctx.custom_data["bucket"]
        ('llama-2-7b', 's3://b')
    """
    config = FakeLLMConfig(model_id, hooks=[]) if llm_config is None else llm_config
    ctx = CallbackCtx(llm_config=config, **{**settings_of(config, nodes or {}), **fields})
    seen = EngineForHooks(engine) if isinstance(engine, FakeEngine) else engine
    set_read_only(ctx, nodes=MappingProxyType(dict(nodes or {})), engine=seen, error=error)
    if "model_path" not in fields:
        forget_path(ctx)
    return ctx


def node_ctx(
    model_id: str = "test-model",
    *,
    node_id: str = "node-0",
    is_local: bool = True,
    download_model: DownloadMode | str = DownloadMode.MODEL_AND_TOKENIZER,
    custom_data: dict[str, Any] | None = None,
    model_path: str | EllipsisType | None = ...,
    llm_config: Any = None,
    error: Exception | None = None,
    unfinished: bool = False,
) -> NodeCtx:
    """Make the context of a hook on a node.

    Args:
        model_id: the model.
        node_id: the node.
        is_local: whether it is the replica's own.
        download_model: what is downloaded there.
        custom_data: ``ctx.custom_data``, as it arrives on the node.
        model_path: ``ctx.model_path``. Default: behind the download, the path that it gives.
        llm_config: what ``ctx.load_llm_config()`` returns. Default: a :class:`FakeLLMConfig` for the model.
        error: ``ctx.error``, as in ``on_node_failure``.
        unfinished: ``ctx.unfinished``, as in a hook with ``once_per_node=`` that comes after one that was killed.

    Example:
        >>> node_ctx("llama-2-7b", node_id="node-1", is_local=False).is_local
        False
    """
    ctx = NodeCtx(
        model_id=model_id,
        **made_up_node(node_id)._asdict(),
        is_local=is_local,
        download_model=DownloadMode.of(download_model),
        custom_data={} if custom_data is None else custom_data,
        model_path=None if isinstance(model_path, EllipsisType) else model_path,
        load_llm_config=lambda: FakeLLMConfig(model_id, hooks=[]) if llm_config is None else llm_config,
        error=error,
        unfinished=unfinished,
    )
    if isinstance(model_path, EllipsisType):
        forget_path(ctx)
    return ctx


def engine_process_ctx(
    model_id: str = "test-model",
    *,
    role: Role = "worker",
    rank: int | None = None,
    node_id: str = "node-0",
    custom_data: Mapping[str, Any] | None = None,
) -> EngineProcessCtx:
    """Make the context of a hook in a process of the engine.

    Args:
        model_id: the model.
        role: the part of the process in the engine.
        rank: a worker's number. Default: 0 for a worker, ``None`` for others.
        node_id: the node that it runs on.
        custom_data: ``ctx.custom_data``, as it arrives there.

    Raises:
        HarnessError: a role that there is not, or a rank that its processes do not have.

    Example:
        >>> engine_process_ctx("llama-2-7b", rank=1).process
        'worker-1'
    """
    check_process("engine_process_ctx", role, rank)
    return EngineProcessCtx(
        model_id=model_id,
        node_id=node_id,
        role=role,
        rank=0 if rank is None and role == "worker" else rank,
        custom_data=dict(custom_data or {}),
    )


def call_hook(fn: Callable[..., Any], ctx: Ctx, *, point: HookName | None = None, **kwargs: Any) -> Skip | None:
    """Call one hook as a run does: sync or async, with its timeout, in virtual time.

    Of one with a ``yield``, both parts. With ``callback_ctx(error=...)`` the error is raised at the ``yield``.

    It refuses what a run refuses: an assignment that comes too late, a changed config, and in the ``custom_data`` of a
    node, what cannot be pickled.

    Args:
        fn: a decorated function.
        ctx: its context: a :func:`callback_ctx`, a :func:`node_ctx` or an :func:`engine_process_ctx`.
        point: the hook point, if the function is a hook at several.
        kwargs: the hook's own parameters.

    Returns:
        The hook's veto, if it vetoed.

    Raises:
        HookError: the hook failed; what it raised is the ``__cause__``. Subclasses: a timeout, an invalid result.
        HookPickleError, EngineArgumentError, PlacementGroupError: the hook did what a run refuses.
        HarnessError: the function is no hook, or none for this kind of ``ctx``.
        UnknownHookError: ``point`` is no hook point.

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
    if is_loop_running():
        raise HarnessError("call_hook() was called inside a running event loop: write `await acall_hook(...)` there")
    return _call(_hook_for(fn, ctx, point, kwargs), ctx)


async def acall_hook(fn: Callable[..., Any], ctx: Ctx, *, point: HookName | None = None, **kwargs: Any) -> Skip | None:
    """Async form of :func:`call_hook`. The hook runs in another thread, in an event loop with a clock of its own.

    Example:
        >>> import asyncio
        >>> from serve_llm_hooks import HookRegistry
        >>> @HookRegistry().hook("on_after_init")
        ... async def announce(ctx):
        ...     await asyncio.sleep(60)
        >>> asyncio.run(acall_hook(announce, callback_ctx()))
    """
    return await asyncio.to_thread(_call, _hook_for(fn, ctx, point, kwargs), ctx)


def _call(hook: Hook, ctx: Ctx) -> Skip | None:
    node = Node(ctx.node_id, ctx.address, ctx.hostname) if isinstance(ctx, NodeCtx) else None

    async def call() -> Skip | None:
        async with Dispatcher(ctx.model_id, trace=None, node=node) as dispatcher:
            with as_in_a_run(hook.point, ctx, notes), beside_others(hook, ctx):
                veto = await dispatcher.run_point([hook], ctx)
                failed = None if isinstance(ctx, EngineProcessCtx) else ctx.error
                for finish in dispatcher.spans.take(lambda each: True, failed):
                    await dispatcher.run_point([finish], ctx)
                return veto

    error: Exception | None = None
    veto: Skip | None = None
    notes: list[str] = []
    processes = ProcessStates(under_serve=True)
    process = _process_of(ctx, processes)
    with in_process(process), monitored_loop(1.0) as monitor:
        try:
            veto = monitor.loop.run_until_complete(call())
        except Exception as failure:
            error = failure
            if _lacks_engine(hook, ctx, failure.__cause__):
                error.add_note("this ctx has no engine: give the hook callback_ctx(engine=FakeEngine())")
    monitor.note_skipped_waits()
    warn_and_raise([*monitor.notes, *notes], error)
    return veto


def _process_of(ctx: Ctx, processes: ProcessStates) -> ProcessState:
    """Return what the process has that a hook with this context runs in."""
    if isinstance(ctx, EngineProcessCtx):
        return processes.for_engine({}, is_child=ctx.role != "config")
    if isinstance(ctx, NodeCtx):
        return processes.for_node(getattr(ctx.llm_config, "runtime_env", None))
    return processes.for_replica(ctx.llm_config)


def _lacks_engine(hook: Hook, ctx: Ctx, cause: BaseException | None) -> bool:
    """Return whether a hook seems to have failed because it was given no engine, which a run would have given it."""
    if not isinstance(ctx, CallbackCtx) or ctx.engine is not None or not HOOK_POINTS[hook.point].after_engine:
        return False
    return any(words in text_of(cause) for words in ("no engine", "'NoneType'")) if cause is not None else False


def _hook_for(fn: Callable[..., Any], ctx: Ctx, point: HookName | None, kwargs: Mapping[str, Any]) -> Hook:
    """Return the hook that a function is at a point with this kind of context."""
    name = getattr(fn, "__qualname__", repr(fn))
    hooks = list(marked_hooks(fn))
    if not hooks and point is None:
        raise HarnessError(f'{name} is no hook: decorate it with @hook("on_..."), or say point="on_..." here')
    if point is not None:
        hook_point(point)
        hooks = [hook for hook in hooks if hook.point == point] or [Hook(fn, HookOptions(point))]
    fitting = [hook for hook in hooks if HOOK_POINTS[hook.point].context == type(ctx).__name__]
    points = ", ".join(hook.point for hook in fitting or hooks)
    if not fitting:
        wanted = " or ".join(dict.fromkeys(_MAKERS[HOOK_POINTS[hook.point].context] for hook in hooks))
        raise HarnessError(f"{name} is a hook at {points}, which is given another kind of ctx: {wanted}")
    if len(fitting) > 1:
        raise HarnessError(f"{name} is a hook at {points}: say which one is meant, with point=")
    return fitting[0].bind(kwargs)
