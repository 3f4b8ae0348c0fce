"""The story of a replica's start, from top to bottom: hooks around placement group, downloads and engine."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

from .._core.context import close, set_read_only
from .._core.errors import HookLoadError, ServeLLMHooksError, is_a, reraise_if_not_a_failure
from .._core.messages import exit_of, one_line, readable
from .._core.registry import HookRegistry, registry
from .._observe.announce import announce
from .._observe.clean_up import log_error, run_each
from .._observe.progress import Progress
from .._observe.spans import Spans
from .._sources.select import hooks_of_config, select
from .nodes import Nodes
from .placement import Placement, is_same_group, replaced_too_late
from .processes import Processes
from .shutdown import DEFAULT_BUDGET_S, run_shutdown_hooks
from .start import Start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from types import TracebackType

    from .._core.context import CallbackCtx
    from .._core.output import InitializeNodeOutput
    from .._core.trace import Trace
    from .cluster import Cluster


@asynccontextmanager
async def initialize(
    llm_config: Any,
    cluster: Cluster,
    hooks: HookRegistry | None = None,
    on_begin: Callable[[Initialization], object] | None = None,
) -> AsyncIterator[Initialization]:
    """Run a replica's start; the engine is started inside the ``async with`` block.

    Args:
        llm_config: the deployment's config.
        cluster: the cluster that it runs on.
        hooks: the hooks to run, as far as they are for the model; left out, those of the config.
        on_begin: called before anything of the start happens, so that its trace is there when it fails.
    """
    with Progress(str(llm_config.model_id), news=cluster.news) as progress:
        run = _begin(llm_config, cluster, hooks, progress)
        ctx = run.ctx
        if on_begin is not None:
            on_begin(run)
        async with run:
            try:
                if await run.start.point("on_before_init"):
                    ctx.run_init_node = False
                    await run.start.point("on_custom_init")
                    await run.placement.ensure()
                    await run.placement.wait_for_default()
                else:
                    await run.placement.ensure()
                    vetoed = bool(await run.start.point("on_before_download"))
                    if vetoed:
                        ctx.run_init_node = False
                    await run.nodes.initialize(vetoed=vetoed)
                    await run.start.point("on_after_download")
                    await run.start.point("on_after_placement_group")
                    await run.nodes.initialize(vetoed=vetoed)  # those that a replaced group added
                group = ctx.placement_group
                await run.start.point("on_before_engine_init")
                run.configure_engine(group)
                async with run.processes.around_the_engine():
                    with run.engine_step(), run.start.progress.waiting_for(run.processes.wait_for_engine):
                        yield run
                set_read_only(ctx, engine=run.engine, load_adapter=run.load_adapter)
                await run.start.point("on_after_engine_init")
                await run.nodes.after_engine()
                await run.start.point("on_after_init")
                await run.start.end()
                run.is_up = True
            except GeneratorExit:  # this start is closed from outside: a hook's is an error of ours by now
                raise
            except BaseException as error:
                cause = run.start.background.cause_of(error)
                await run.ended_by(cause)
                if cause is not error:
                    raise cause from cause.__cause__
                raise


class Initialization:
    """One start of one replica, for the code that starts its engine.

    Use as an async context manager, around all of the start.

    Attributes:
        ctx: the context of hooks in the replica.
        engine: the engine; set by the code that starts it.
        load_adapter: what loads a LoRA adapter, if anything does; set likewise.
        is_up: ``True`` after a good start, until the replica is shut down; ``None`` while it starts.
        ends_with_engine: ``False`` where the engine starts only after this start, of which :meth:`over` then tells.
        trace: the hook calls so far.
        start: the state that the parts of the story share.
        placement: its placement group.
        nodes: its nodes.
        processes: its engine's processes.
    """

    def __init__(self, start: Start, begun_s: float) -> None:
        self.start = start
        self._begun_s = begun_s
        self._spans = Spans()
        self.ends_with_engine: bool = True
        self.ctx: CallbackCtx = start.ctx
        self.trace: Trace = start.trace
        self.engine: Any = None
        self.load_adapter: Callable[[str], Awaitable[None]] | None = None
        self.is_up: bool | None = None
        self.placement: Placement = Placement(start)
        self.nodes: Nodes = Nodes(start, self.placement)
        self.processes: Processes = Processes(start)

    async def __aenter__(self) -> Initialization:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_up = bool(self.is_up)
        if kind is not None and issubclass(kind, GeneratorExit):
            self.start.background.leave()
        else:
            await self.start.background.end()
        await self.start.dispatcher.__aexit__(kind, error, traceback)
        if kind is not None and not issubclass(kind, GeneratorExit):
            await self.placement.give_back()
        if kind is not None or self.ends_with_engine:
            self.over(error)

    @contextmanager
    def engine_step(self) -> Iterator[None]:
        """Record the start of the engine, which is what happens inside the ``with`` block."""
        if not self.ends_with_engine:
            yield
            return
        with self.trace.step("engine"):
            yield

    def over(self, error: BaseException | None) -> None:
        """Record that the start is over, and tell what it did.

        Args:
            error: what ended it, if it has failed.
        """
        self.trace.add_step("start", self._begun_s, failed=error is not None)
        from .._observe.ending import tell_end  # at the end: nobody waits for what is said of a start

        tell_end(self.start.model_id, self.trace, self.start.cluster, self._spans, error)

    @property
    def has_hooks_at_shutdown(self) -> bool:
        """``True`` if there is anything to run, or to record, when the replica is shut down."""
        selection = self.start.selection
        return bool(self.start.spans or selection.by_point["on_shutdown"] or selection.disabled["on_shutdown"])

    @property
    def output(self) -> InitializeNodeOutput:
        """The settings that the engine is started with."""
        from .._core.output import InitializeNodeOutput  # Ray's server does not ask for it

        ctx = self.ctx
        return InitializeNodeOutput(ctx.placement_group, ctx.runtime_env, dict(ctx.extra_init_kwargs))

    def configure_engine(self, group: Any) -> None:
        """Pass on what hooks decided to the engine; from here on they cannot change it.

        Args:
            group: the placement group whose nodes are initialized.

        Raises:
            PlacementGroupError: a hook has replaced it since.
            EngineArgumentError: an argument that the engine cannot be given.
        """
        start, ctx = self.start, self.ctx
        if not is_same_group(ctx.placement_group, group):
            raise replaced_too_late(start.model_id)
        self.nodes.warn_of_files()
        path_by_hook = ctx.model_path is not None and ctx.model_path != self.nodes.downloaded_path
        start.cluster.configure_engine(start.llm_config, ctx, path_by_hook=path_by_hook)
        close(ctx)

    async def shut_down(self, budget_s: float = DEFAULT_BUDGET_S) -> tuple[Exception, ...]:
        """Run ``on_shutdown``, once, and only after a good start. The engine must still answer.

        Args:
            budget_s: seconds that its hooks have, all of them together.

        Returns:
            The failures of its hooks. They are logged, and nothing else follows from them.

        Raises:
            ServeLLMHooksError: the start is not over yet.

        Example:
            >>> async with initialization(config) as run:  # doctest: +SKIP
            ...     run.engine = await my_engine()
            >>> await run.shut_down(budget_s=30)  # doctest: +SKIP
        """
        if self.is_up is None:
            raise ServeLLMHooksError(
                f"model {self.start.model_id!r}: shut_down() was called while the replica is starting; call it after "
                "the `async with initialization(...)` block"
            )
        was_up, self.is_up = self.is_up, False
        if not was_up:
            return ()
        since = len(self.trace)
        failures = await run_shutdown_hooks(self.start, budget_s)
        from .._observe.ending import tell_shutdown

        tell_shutdown(self.start.model_id, self.trace, self.start.cluster, self._spans, since)
        return tuple(failures)

    async def ended_by(self, error: BaseException) -> None:
        """Cancel what is in the background, finish what is set up, and run ``on_failure``.

        Where the start is being cancelled, ``on_failure`` does not run.

        An error in there is logged; the first error is the one that is raised.
        """
        try:
            reraise_if_not_a_failure(error, asyncio.current_task())
            await self.start.background.end(error)
        except asyncio.CancelledError:
            try:
                await self.start.background.end(error)
            finally:  # it may be cancelled once more
                await self.start.end_after(error)
            raise
        await self._failed(error)

    async def _failed(self, error: BaseException) -> None:
        start = self.start
        seen = error
        if not is_a(error, Exception):  # such as sys.exit by what starts the engine
            seen = ServeLLMHooksError(f"the start of model {start.model_id!r} was ended by {one_line(error)}")
            seen.__cause__ = readable(error)
        set_read_only(self.ctx, error=seen)
        log_error("model %r: the start failed: %s", start.model_id, one_line(error))
        await start.end_after(seen)
        start.record_disabled("on_failure")
        with start.progress.waiting_for(lambda: f"{self.trace.running or 'hooks'} at on_failure"):
            hooks = start.selection.by_point["on_failure"]
            async with start.dispatcher_after(seen) as dispatcher:
                await run_each(dispatcher, hooks, self.ctx, consequence="the first error is raised")


def _begin(llm_config: Any, cluster: Cluster, hooks: HookRegistry | None, progress: Progress) -> Initialization:
    """Import what the config names, and ask for the defaults: seconds that belong to the start too."""
    begun_s = cluster.clock()
    model_id = str(llm_config.model_id)
    where = f"in the replica of model {model_id!r} on {cluster.node(cluster.local_node_id)}"
    try:
        with progress.waiting_for("its hooks and its engine to be imported"):
            if hooks is None:
                hooks = _hooks(llm_config, where)
            run = Initialization(Start(llm_config, cluster, select(hooks, model_id), progress), begun_s)
            run.trace.add_step("imports", begun_s)
    except Exception:
        raise
    except BaseException as error:  # raised, sys.exit would end Serve's event loop, and the replica would hang
        reraise_if_not_a_failure(error)
        exit_called = exit_of(error)
        what = f"called {exit_called}" if exit_called else f"raised {one_line(error)}"
        raise ServeLLMHooksError(f"{where}: a module that was imported for the start {what}") from readable(error)
    says_nothing = getattr(llm_config, "hooks", ()) is None
    taken = set(hooks)
    not_named = [hook for hook in registry.for_model(model_id) if hook not in taken] if says_nothing else ()
    announce(model_id, run.start.selection, not_named)
    return run


def _hooks(llm_config: Any, where: str) -> HookRegistry:
    try:
        return hooks_of_config(llm_config)
    except HookLoadError as error:  # it names the module; where it is missing is known here
        raise type(error)(f"{where}: {error}") from error.__cause__
