"""The processes of one replica's engine: send them their hooks, hear what these did, see that all have run."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from .._core.errors import HookError, HookLoadError
from .._core.messages import counted
from .._core.points import ROLES
from .._node.packing import pack_custom_data, pack_hooks
from .._process.payload import PLUGIN, to_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from .._core.hook import Hook
    from .._process.task import ProcessReport, ProcessTask
    from .start import Start

POINT: Final = "on_engine_process_start"


class Processes:
    """The engine's processes, as far as hooks run in them."""

    def __init__(self, start: Start) -> None:
        self._start = start

    @asynccontextmanager
    async def around_the_engine(self) -> AsyncIterator[None]:
        """Let the processes of an engine that is started inside the block run their hooks.

        What works in the background until they begin is waited for by the workers, and merged when the engine is up.

        Raises:
            HookPickleError: a hook, or a value in ``custom_data``, cannot be sent to them.
            HookLoadError: the hooks cannot reach them, or some have not run any.
            HookError: a hook has failed in one of them; what the engine's start raised is the cause.
        """
        start = self._start
        start.record_disabled(POINT)
        hooks = start.selection.in_processes
        if not hooks and not start.background.names_until(POINT):
            yield
            return
        task = self._task(hooks)
        to_text(task)  # on any cluster, so that a fake one refuses what is too large
        start.cluster.open_processes(task)
        start.background.call_at_end(POINT, start.cluster.release_processes)
        reports: Sequence[ProcessReport] = ()
        try:
            if hooks:
                await self._run_frontend(task, hooks)
            yield
        except Exception as error:
            reports = self._close()
            self._raise_behind()
            failure = _failure(task, reports)
            if failure is None or failure is error:
                raise
            raise failure from error
        except BaseException:
            self._close()
            raise
        reports = self._close()
        self._raise_behind()
        failure = _failure(task, [report for report in reports if not report.running])
        if failure is not None:
            raise failure
        self._check_complete(task, reports)
        await start.background.join(POINT)

    def _raise_behind(self) -> None:
        """Raise what has failed in the background, where workers have ended with that."""
        behind = self._start.background.take_failure(POINT)
        if behind is not None:
            raise behind from behind.__cause__

    def wait_for_engine(self) -> str:
        """Return what takes so long while the engine starts, for the log."""
        names = self._start.background.names_until(POINT, at_work=True)
        return "its engine to start" + (f", and that for {names}, at work until {POINT}" if names else "")

    def _task(self, hooks: Sequence[Hook]) -> ProcessTask:
        from .._process.task import ProcessTask  # few starts need one

        start = self._start
        return ProcessTask(
            start.model_id,
            start.trace.node,
            pack_hooks(hooks),
            pack_custom_data(start.ctx.custom_data, where="the replica") if hooks else (),
            start.defaults.on_error,
            waits_for=start.background.names_until(POINT),
        )

    async def _run_frontend(self, task: ProcessTask, hooks: Sequence[Hook]) -> None:
        """Run the hooks of this process, the frontend: on a GPU, vLLM loads no plugin here."""
        from .._process.task import Process
        from .._process.work import run_task

        start = self._start
        cluster = start.cluster
        with start.progress.waiting_for(f"hooks at {POINT}"):
            times: dict[str, Any] = {"clock": cluster.clock, "epoch_s": cluster.epoch_s}
            call = partial(run_task, task, Process("frontend"), node=task.node, hooks=hooks, **times)
            report = await start.dispatcher.call_in_thread(call)
        start.trace.extend(report.events)
        if report.failure is not None:
            raise report.failure

    def _close(self) -> Sequence[ProcessReport]:
        """Hear what processes have told, and add it to the trace."""
        found = self._start.cluster.close_processes()
        reports = sorted(found, key=lambda each: (ROLES.index(each.process.role), each.process.rank or 0))
        for report in reports:
            self._start.trace.extend(report.events)
        return reports

    def _check_complete(self, task: ProcessTask, reports: Sequence[ProcessReport]) -> None:
        """Raise unless the core and every worker have reported: vLLM only logs a plugin that does not load."""
        start = self._start
        there = {report.process.name for report in reports}
        there |= {f"worker-{report.process.rank or 0}" for report in reports if report.process.is_worker_too}
        wanted = ["core", *(f"worker-{rank}" for rank in range(start.defaults.engine_workers))]
        missing = [name for name in wanted if name not in there]
        if not missing:
            return
        done, do = "waited", "wait"
        what = f"for {task.waits_for}, at work until {POINT}"
        if task.hooks:
            done, do = "run", "run"
            what = f"{counted(len(task.hooks), 'hook')} at {POINT}, {task.hooks[0].ref} first"
        if not there:
            raise HookLoadError(
                f"model {start.model_id!r}: no process of the engine has {done} {what}. They do where vLLM loads the "
                f"plugin {PLUGIN!r}: is the engine that was started one of vLLM's, and its processes' log silent?"
            )
        raise HookLoadError(
            f"model {start.model_id!r}: {', '.join(missing)} of the engine did not {do} {what}: vLLM did not load the "
            f"plugin {PLUGIN!r} there. Its log says why; is serve-llm-hooks installed on every node?"
        )


def _failure(task: ProcessTask, reports: Sequence[ProcessReport]) -> Exception | None:
    """Return the error of the hook that has failed in a process, or in which one has died."""
    for report in reports:
        if report.failure is not None:
            return report.failure
    for report in reports:
        if report.running:
            name = report.process.name
            return HookError(
                f"hook {report.running} did not end at {POINT} for model {task.model_id!r} in {name} on "
                f"{report.node}: the engine's start failed while process {report.process_id} ran it. Did the process "
                "die in it?",
                hook=report.running,
                point=POINT,
                model_id=task.model_id,
                node_id=report.node.node_id,
                process=name,
            )
    return None
