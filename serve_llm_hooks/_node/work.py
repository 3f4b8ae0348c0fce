"""``run_task``: run a node's hooks and its download, from a ``NodeTask`` to a ``NodeReport``.

This module is imported in a fresh process on every node, so it stays light: neither torch nor vLLM.
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import time
from typing import TYPE_CHECKING, Any

from .._core.context import NodeCtx, close, close_in_background, set_read_only
from .._core.dispatch import Dispatcher
from .._core.errors import (
    HookPickleError,
    NodeLostError,
    ServeLLMHooksError,
    is_a,
    reraise_if_not_a_failure,
)
from .._core.hook import with_fresh_instances
from .._core.messages import one_line, readable
from .._core.own_task import HookVariables, in_a_task_of_its_own
from .._core.spans import CLEAN_UP_S, OpenSpans
from .._core.trace import Trace
from .._observe.announce import tell_files, warn_of_files
from .._observe.clean_up import log_error, run_each
from .._sources.allow import check_source
from .downloading import Downloading
from .failures import reported, why_ended
from .packing import pack_custom_data, unpack_custom_data
from .task import NodeReport, NodeTask, has_bucket, wants_download
from .unpacking import check_packed, unpack_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._core.hook import Hook
    from .._core.points import HookName
    from .._core.veto import Skip
    from .._observe.progress import Progress
    from .downloading import Download, Measure
    from .node_folder import NodeFolder
    from .once import OncePerNode


async def run_task(
    task: NodeTask,
    download: Download,
    *,
    clock: Callable[[], float] = time.perf_counter,
    epoch_s: float | None = None,
    environ: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    measure: Measure | None = None,
    folder: NodeFolder | None = None,
) -> NodeReport:
    """Do a node's work. Never raises, except when cancelled: a failure is part of the report.

    Args:
        task: the work.
        download: downloads the files of a mode, and returns the path.
        clock: seconds from any starting point.
        epoch_s: the time to add to the clock for seconds since the epoch; left out, the system's clock tells.
        environ: the environment whose ``SERVE_LLM_HOOKS_ALLOW`` decides; left out, this process's.
        progress: logs what is waited for; left out, nothing does.
        folder: where hooks that run once per node keep what they have come to; left out, where ``environ`` says.
        measure: tells the bytes that a download has brought, from its path and when it began; left out, nobody knows.
    """
    trace = Trace(**task.node._asdict(), clock=clock, epoch_s=epoch_s)
    work = _Work(task, download, trace, environ, measure, folder)
    start_s = clock()
    with contextlib.nullcontext() if progress is None else progress.waiting_for(work.waits_for):
        failure = await work.failure()
    if not task.in_background:  # one hook, which has its event
        trace.add_step("node", start_s, failed=failure is not None)
    return NodeReport(
        node_id=task.node_id,
        is_local=task.is_local,
        events=trace.events,
        custom_data=work.custom_data,
        path=work.ctx.model_path,
        download_model=work.ctx.download_model,
        skipped=work.skipped,
        start_s=trace.epoch_s + start_s,
        end_s=trace.epoch_s + clock(),
        download_s=work.downloading.took_s,
        failure=failure,
        weights_due=work.downloading.weights_due,
        steps=trace.steps,
    )


class _Work:
    """One node's work, step by step."""

    def __init__(
        self,
        task: NodeTask,
        download: Download,
        trace: Trace,
        environ: Mapping[str, str] | None,
        measure: Measure | None,
        folder: NodeFolder | None,
    ) -> None:
        self.task = task
        self.trace = trace
        self.environ = environ
        self.folder = folder
        self.once: OncePerNode | None = None
        self.hooks: list[Hook] = []
        self.variables = HookVariables()  # also of those that clean up
        self.spans = OpenSpans()
        self.custom_data: tuple[tuple[str, bytes], ...] = ()
        self.skipped: str | None = None
        self.downloading = Downloading(task, download, measure, trace)
        self.ctx = NodeCtx(
            model_id=task.model_id,
            node_id=task.node_id,
            address=task.address,
            hostname=task.hostname,
            is_local=task.is_local,
            download_model=task.download_model,
            model_path=task.model_path,
            load_llm_config=self._load_llm_config,
        )

    def waits_for(self) -> str:
        """Return what takes so long, for the log."""
        if self.downloading.at_work:
            return f"the download from {self.task.download_source}"
        if self.once is not None and self.once.waits_for:
            return self.once.waits_for
        return self.trace.running or "its hooks to be imported"

    async def failure(self) -> Exception | None:
        """Run it all; return the error to report, if it failed.

        Where it failed or was cancelled, ``on_node_failure`` runs before that is told.
        """
        running, cancelled = await in_a_task_of_its_own(self._run_and_catch())
        error = running.result() if not running.cancelled() else cancelled or self._cancelled_by_something()
        if error is None:
            return None
        notes, cancelled_again = await self._clean_up(error)
        if cancelled_again or error is cancelled:
            raise cancelled_again or error
        with contextlib.suppress(HookPickleError):  # which is this failure, or comes after it
            self._pack_custom_data()
        failure = reported(error, self.task.node_id)
        for note in notes:
            failure.add_note(note)
        return failure

    async def _run_and_catch(self) -> BaseException | None:
        try:
            await self.run()
        except GeneratorExit:  # those of hooks and downloads are errors of ours by now
            raise
        except BaseException as error:  # raised, it would end the process, and the node would count as lost
            reraise_if_not_a_failure(error, asyncio.current_task())
            return error
        return None

    async def _clean_up(self, error: BaseException) -> tuple[list[str], asyncio.CancelledError | None]:
        """Finish what is set up, and run ``on_node_failure``; return a note on each failure, and any cancellation.

        With a thread of its own for sync hooks: one that has timed out, or was cancelled, may still hold the other.
        """
        limit = f"the {CLEAN_UP_S:g} s of a hook at on_node_failure"
        hooks = [
            hook.limited_to(CLEAN_UP_S, limit) if hook.options.timeout_s is None else hook
            for hook in self._at("on_node_failure")
        ]
        if not hooks and not self.spans:
            return [], None
        seen = error
        if not is_a(error, Exception):
            seen = ServeLLMHooksError(f"{self.task.node}: {why_ended(error)}")
            seen.__cause__ = readable(error)
        set_read_only(self.ctx, error=seen)
        log_error("model %r: %s failed: %s", self.task.model_id, self.task.node, one_line(seen))

        async def run() -> list[Exception]:
            all_of_them = [*self.spans.take_all(seen), *hooks]
            async with self._dispatcher() as dispatcher:
                return await run_each(dispatcher, all_of_them, self.ctx, consequence="the first error is raised")

        running, cancelled = await in_a_task_of_its_own(run())
        return [] if running.cancelled() else [str(failure) for failure in running.result()], cancelled

    def _at(self, point: HookName) -> list[Hook]:
        return [hook for hook in self.hooks if hook.point == point]

    def _dispatcher(self) -> Dispatcher:
        task = self.task
        return Dispatcher(
            task.model_id,
            trace=self.trace,
            node=task.node,
            on_error=task.on_error,
            variables=self.variables,
            spans=self.spans,
        )

    async def _run_point(self, dispatcher: Dispatcher, hooks: Sequence[Hook]) -> Skip | None:
        if not any(hook.options.once_per_node for hook in hooks):
            return await dispatcher.run_point(hooks, self.ctx)
        if self.once is None:
            from .node_folder import NodeFolder  # few nodes have such hooks
            from .once import OncePerNode

            folder = NodeFolder(self.environ) if self.folder is None else self.folder
            self.once = OncePerNode(self.task, self.ctx, self.trace, folder)
        return await self.once.run_point(dispatcher, hooks)

    async def _finish(self, dispatcher: Dispatcher, until: HookName | None = None) -> None:
        """Finish what is set up; with a point, what lasts until that."""
        for finish in self.spans.take(lambda hook: until in (None, hook.options.until)):
            await dispatcher.run_point([finish], self.ctx)

    def _pack_custom_data(self) -> None:
        self.custom_data = pack_custom_data(self.ctx.custom_data, where=str(self.task.node))

    def _cancelled_by_something(self) -> NodeLostError:
        node = self.task.node
        return NodeLostError(f"{node}: something that runs there cancelled its work", node_id=node.node_id)

    async def run(self) -> None:
        """Run the hooks before the download, the download, and the hooks after it; or those after the engine."""
        ctx, task = self.ctx, self.task
        here: dict[str, Any] = {"where": f"on {task.node}", "environ": self.environ}
        check_packed(task.hooks, **here)
        ctx.custom_data = unpack_custom_data(task.custom_data, where=f"on {task.node}")
        self.hooks = with_fresh_instances(unpack_hooks(task.hooks, **here))
        async with self._dispatcher() as dispatcher:
            if task.weights == "only":
                await self.downloading.weights(ctx.download_model, ctx.model_path)
            elif task.in_background:
                for hook in self.hooks:
                    close_in_background(ctx, hook.options.until or "", ctx.custom_data)
                await self._run_point(dispatcher, self.hooks)
            elif task.after_engine:
                close(ctx)
                await self._run_point(dispatcher, self._at("on_after_node_engine_init"))
            else:
                await self._run_around_the_download(dispatcher)
            await self._finish(dispatcher)
        self._pack_custom_data()

    async def _run_around_the_download(self, dispatcher: Dispatcher) -> None:
        ctx, task = self.ctx, self.task
        veto = await self._run_point(dispatcher, self._at("on_before_node_download"))
        chosen = veto is None and ctx.download_model is not task.download_model
        told: tuple[str, str] = (task.model_id, ctx.download_model.name)
        if chosen and has_bucket(task.mirror):
            tell_files(*told, task.download_source, f"{task.node} downloads")
        await self._download(veto)
        await self._finish(dispatcher, "on_after_node_download")
        await self._run_point(dispatcher, self._at("on_after_node_download"))
        if chosen and not has_bucket(task.mirror) and ctx.model_path == task.source_id:
            warn_of_files(*told, task.source_id, f"{task.node} downloads")

    async def _download(self, veto: Skip | None) -> None:
        ctx, task = self.ctx, self.task
        path: str | None = task.source_id
        if veto is not None:
            self.skipped = veto.reason
            path = None  # only the hook that vetoed knows where the model is
        elif wants_download(task.mirror, ctx.download_model):
            path = await self.downloading.model(ctx.download_model)
        if ctx.model_path is None:  # else a hook fetched the model itself, and has set it
            ctx.model_path = path

    def _load_llm_config(self) -> Any:
        if self.task.config_failure:
            raise HookPickleError(self.task.config_failure)
        for source in self.task.config_sources:
            what = f"the config of model {self.task.model_id!r}, which has hooks from there,"
            check_source(source, what, where=f"on {self.task.node}", environ=self.environ)
        return None if self.task.llm_config is None else pickle.loads(self.task.llm_config)
