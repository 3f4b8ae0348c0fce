"""``Start``: the state of one start of one replica, shared by the parts of its story."""

from __future__ import annotations

import asyncio
import copy
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .._core.context import CallbackCtx
from .._core.dispatch import Dispatcher
from .._core.errors import is_a
from .._core.points import HOOK_POINTS, left_out_by
from .._core.trace import Trace
from .._core.until import SHUTDOWN
from .._observe.announce import warn_of_left_out
from .._observe.clean_up import run_each
from .background import Background
from .given_config import GivenConfig

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from .._core.hook import Hook
    from .._core.node import Node
    from .._core.points import HookName
    from .._core.selection import Selection
    from .._core.spans import OpenSpans
    from .._core.veto import Skip
    from .._observe.progress import Progress
    from .cluster import Cluster, ReplicaDefaults


class Start:
    """One start of one replica.

    Attributes:
        llm_config: the deployment's config.
        model_id: the model's id, as clients name it.
        cluster: the cluster that it runs on.
        selection: its hooks.
        defaults: the settings without any hook.
        ctx: the context of hooks in the replica.
        trace: the hook calls so far.
        dispatcher: runs the hooks.
        spans: what hooks with a ``yield`` have set up, and that is to be finished.
        progress: logs what is waited for.
        background: what works until a later point.
    """

    def __init__(self, llm_config: Any, cluster: Cluster, selection: Selection, progress: Progress) -> None:
        self.llm_config = llm_config
        self.cluster = cluster
        self.selection = selection
        self.defaults: ReplicaDefaults = cluster.defaults(llm_config)
        self.trace: Trace = Trace(
            **cluster.node(cluster.local_node_id)._asdict(), clock=cluster.clock, epoch_s=cluster.epoch_s
        )
        self.ctx: CallbackCtx = CallbackCtx(
            llm_config=llm_config,
            worker_node_download_model=self.defaults.download_model,
            placement_group=self.defaults.placement_group,
            runtime_env=copy.deepcopy(self.defaults.runtime_env),  # hooks may change it in place
            trace=self.trace,
        )
        self._given = GivenConfig(llm_config)
        self.model_id: str = self.ctx.model_id
        self.dispatcher: Dispatcher = Dispatcher(self.model_id, trace=self.trace, on_error=self.defaults.on_error)
        self.spans: OpenSpans = self.dispatcher.spans
        self.progress: Progress = progress
        self.background: Background = Background(selection.hooks, self.ctx, self.progress, self._dispatcher_of_its_own)

    async def point(self, name: HookName) -> Skip | None:
        """Finish what lasts until a point, and run its hooks; return the veto, if there was one."""
        if self.background:
            await self.background.join(name)
        if self.spans:
            await self._finish(lambda hook: hook.options.until == name)
        self.record_disabled(name)
        hooks = self.selection.by_point[name]
        if not hooks:
            return None
        with self.progress.waiting_for(lambda: f"{self.trace.running or 'hooks'} at {name}"):
            veto = await self._run(name, hooks)
        if not HOOK_POINTS[name].after_engine:
            self._given.check(name)
        if veto:
            self.leave_out(name, f"vetoed at {name}: {veto.reason}")
        return veto

    async def _run(self, name: HookName, hooks: Sequence[Hook]) -> Skip | None:
        if name not in self.background.points:
            return await self.dispatcher.run_point(hooks, self.ctx)
        veto: Skip | None = None
        together: list[Hook] = []
        for hook in hooks:
            earlier = self.background.earlier(hook)
            if together and (earlier or hook.is_background):
                veto = await self.dispatcher.run_point(together, self.ctx) or veto
                together = []
            await self.background.settle(earlier)
            if hook.is_background:
                self.background.begin(hook)
            else:
                together.append(hook)
        return await self.dispatcher.run_point(together, self.ctx) or veto

    async def end(self) -> None:
        """Finish what lasts until the end of a good start."""
        if self.spans:
            await self._finish(lambda hook: hook.options.until != SHUTDOWN)

    async def _finish(self, is_due: Callable[[Hook], bool]) -> None:
        with self.progress.waiting_for(lambda: f"{self.trace.running}, after its `yield`"):
            for finish in self.spans.take(is_due):
                await self.dispatcher.run_point([finish], self.ctx)

    async def end_after(self, error: BaseException) -> None:
        """Finish all that is set up after a start that has failed, or is being cancelled. What fails is logged."""
        cancelled: asyncio.CancelledError | None = None
        with self.progress.waiting_for(lambda: f"{self.trace.running}, after its `yield`"):
            async with self.dispatcher_after(error) as dispatcher:
                for finish in self.spans.take_all(error):
                    try:
                        await run_each(dispatcher, [finish], self.ctx, consequence="the first error is raised")
                    except asyncio.CancelledError as once_more:  # ends this one, and not the others
                        cancelled = once_more
        if cancelled is not None:
            raise cancelled

    @asynccontextmanager
    async def dispatcher_after(self, error: BaseException) -> AsyncIterator[Dispatcher]:
        """Give the dispatcher for what runs after an error.

        It has a thread of its own where the start was interrupted: a hook may still be running in the other.
        """
        if is_a(error, Exception) and not self.background.has_interrupted:
            yield self.dispatcher
            return
        dispatcher = self.new_dispatcher()
        try:
            yield dispatcher
        finally:
            await dispatcher.__aexit__()

    def _dispatcher_of_its_own(self) -> Dispatcher:
        return Dispatcher(self.model_id, trace=self.trace.beside(), on_error=self.defaults.on_error)

    def new_dispatcher(self) -> Dispatcher:
        """Return another dispatcher of this start, with a thread of its own for sync hooks."""
        variables, spans = self.dispatcher.variables, self.spans
        return Dispatcher(
            self.model_id, trace=self.trace, on_error=self.defaults.on_error, variables=variables, spans=spans
        )

    def leave_out(self, veto: HookName, why: str) -> None:
        """Record the hooks that a veto at this point, or what means the same, leaves out, and warn of them."""
        hooks = [hook for name in left_out_by(veto) for hook in self.selection.by_point[name]]
        for hook in hooks:
            self.trace.did_not_run(hook, "skipped", why)
        warn_of_left_out(self.model_id, hooks, why)

    def record_disabled(self, name: HookName, node: Node | None = None) -> None:
        """Record in the trace the hooks of a point that are turned off, where they would have run."""
        for hook, why in self.selection.disabled[name]:
            self.trace.did_not_run(hook, "disabled", why, node=node)
