"""The processes of a fake engine, as far as hooks run in them: those that vLLM would start, with the same bytes."""

from __future__ import annotations

import asyncio
import os
import pickle
from contextlib import ExitStack, suppress
from contextvars import Context
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.called import is_called
from serve_llm_hooks._core.event import path_in
from serve_llm_hooks._core.worker_thread import WorkerThread
from serve_llm_hooks._process.payload import check_plugins
from serve_llm_hooks._process.task import Process
from serve_llm_hooks._process.work import run_task

from .._apart.state import enter_process
from .accelerators import runs_on_cpu
from .defaults import defaults_of
from .fault_hooks import with_failing_packed, without_module
from .fault_kinds import EngineProcessDiesFault, MissingModuleFault, MissingPluginFault
from .vllm_stand_in import stand_in_for_vllm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from serve_llm_hooks._core.node import Node
    from serve_llm_hooks._process.task import ProcessReport, ProcessTask

    from .fault_kinds import Fault
    from .process_states import ProcessStates
    from .settings import ClusterSettings
    from .start import ReplicaStart

_FIRST_PROCESS_ID = 10_000  # how far their made-up ids are from those of nodes' processes


class EngineProcesses:
    """The part of a cluster's port that is about the engine's processes. A base of ``SimulatedCluster``.

    vLLM starts the core, and that starts the workers, at once. On a GPU, Ray builds the config in a task before.
    """

    settings: ClusterSettings
    processes: ProcessStates
    start: ReplicaStart
    triggered: list[Fault]
    local_node_id: str

    def replica_names(self) -> Sequence[str]:
        """Return nothing: there is no Serve."""
        return ()

    def metrics_writer(self) -> None:
        """Return nothing: there are no metrics."""

    def news(self) -> Sequence[str]:
        """Return nothing: who waits in virtual time does not wait long enough for a line."""
        return ()

    if TYPE_CHECKING:

        def clock(self) -> float: ...
        def node(self, node_id: str) -> Node: ...

    _task: bytes | None = None
    _reports: Mapping[Process, ProcessReport] = MappingProxyType({})  # what each has told last
    _stand_in: ExitStack | None = None
    _gate: asyncio.Future[str] | None = None

    def open_processes(self, task: ProcessTask) -> None:
        """Keep a task for the processes of the engine that is started next.

        Raises:
            HookLoadError: vLLM would not load the plugin.
        """
        check_plugins(task.model_id, os.environ)
        self._task, self._reports = pickle.dumps(task), {}
        self._gate = asyncio.get_running_loop().create_future()
        self._stand_in = ExitStack()
        self._stand_in.enter_context(stand_in_for_vllm())  # for the frontend's hooks, which the replica runs

    def release_processes(self, failure: str) -> None:
        """Let the workers that wait go on."""
        gate = self._gate

        def open_gate() -> None:
            if gate is not None and not gate.done():
                gate.set_result(failure)

        if gate is not None:
            with suppress(RuntimeError):  # the replica is over
                gate.get_loop().call_soon_threadsafe(open_gate)

    def close_processes(self) -> Sequence[ProcessReport]:
        """Return what the processes have told."""
        self._task = self._gate = None
        self._end_frontend()
        return list(self._reports.values())

    def _end_frontend(self) -> None:
        """Take the stand-in away: each process of the engine gets one of its own."""
        if self._stand_in is not None:
            self._stand_in.close()

    async def start_processes(self, llm_config: Any) -> None:
        """Start the engine's processes, which run their hooks.

        Raises:
            RuntimeError: one has failed, in the words of Ray or vLLM, which do not say why.
        """
        self._end_frontend()
        if self._task is None:
            return
        on_cpu = runs_on_cpu(llm_config)
        workers = defaults_of(llm_config).engine_workers
        if not on_cpu:
            (report,) = await self._start([Process("config")], [self.local_node_id])
            if report is not None and _has_failed(report):
                raise RuntimeError(f"Failed to create vLLM engine config: {report.failure or 'its process has died'}")
        nodes = [self.local_node_id] * workers if on_cpu else self._nodes_of_workers(workers)
        for processes, node_ids in (
            ([Process("core")], [self.local_node_id]),
            ([Process("worker", rank) for rank in range(workers)], nodes),
        ):
            reports = await self._start(processes, node_ids)
            if any(report is not None and _has_failed(report) for report in reports):
                raise RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}")

    def _nodes_of_workers(self, workers: int) -> list[str]:
        engine = self.start.engine
        assert engine is not None
        nodes = list(engine.placement_group.node_ids)
        own = self.settings.own_bundles
        nodes = nodes if own is None else [nodes[index] for index in own]
        return [nodes[rank % len(nodes)] for rank in range(workers)]

    async def _start(self, processes: Sequence[Process], node_ids: Sequence[str]) -> list[ProcessReport | None]:
        """Start processes at once; return what each has told, nothing for one without the plugin."""
        return await asyncio.gather(*map(self._run_process, processes, node_ids))

    async def _run_process(self, process: Process, node_id: str) -> ProcessReport | None:
        assert self._task is not None
        dies: str | None = None
        for fault in self.settings.faults:
            if isinstance(fault, MissingPluginFault) and fault.process == process.name:
                self.triggered.append(fault)
                return None
            if isinstance(fault, EngineProcessDiesFault) and fault.process == process.name:
                dies = fault.hook or ""
        task: ProcessTask = pickle.loads(self._task)
        if task.waits_for and process.reads_weights and (failure := await self._gate_opens()):
            report = run_task(
                task, process, node=self.node(node_id), hooks=(), wait=lambda: failure, clock=self.clock, epoch_s=0.0
            )
            self._hear(report)
            return report
        task = task._replace(waits_for="")
        for absent in self.settings.faults:
            if isinstance(absent, MissingModuleFault) and absent.node_id == node_id:
                hooks = tuple(without_module(hook, absent.module) for hook in task.hooks)
                self.triggered += [absent] if hooks != task.hooks else []
                task = task._replace(hooks=hooks)
        failing = self.start.failing
        task = task._replace(hooks=tuple(with_failing_packed(hook, failing, node_id) for hook in task.hooks))
        report = await self._work_in_process(task, process, self.node(node_id), dies)
        if dies is not None and report.running:
            self.triggered += [
                fault
                for fault in self.settings.faults
                if isinstance(fault, EngineProcessDiesFault) and fault.process == process.name
            ]
        return report

    def _hear(self, report: ProcessReport) -> None:
        """Keep what a process has told, as production does: also of one that is killed before it has done its work."""
        self._reports = {**self._reports, report.process: report}

    async def _gate_opens(self) -> str:
        """Wait as a worker for what works in the background; return why it has failed, or an empty text."""
        assert self._gate is not None
        return await self._gate

    def _environ_of(self, process: Process) -> Mapping[str, str]:
        """Return the variables that a process has besides the replica's: Ray gives them to the task of its own."""
        if process.role != "config" or self.start.engine is None:
            return {}
        variables = (self.start.engine.runtime_env or {}).get("env_vars") or {}
        return {key: str(value) for key, value in variables.items()}

    async def _work_in_process(
        self, task: ProcessTask, process: Process, node: Node, dies: str | None
    ) -> ProcessReport:
        """Run the hooks of a process, in a thread that stands for it."""
        state = self.processes.for_engine(self._environ_of(process), is_child=process.role != "config")
        context = Context()  # context variables of the replica do not reach it
        context.run(enter_process, state)
        thread = WorkerThread()
        place = {"config": 0, "core": 1}.get(process.role, 2 + (process.rank or 0))
        process_id = os.getpid() + _FIRST_PROCESS_ID + place

        def tell(report: ProcessReport) -> None:
            events = tuple(event._replace(process_id=process_id) for event in report.events)
            self._hear(pickle.loads(pickle.dumps(report._replace(process_id=process_id, events=events))))

        stand_in = ExitStack()

        def work() -> None:
            with stand_in:
                stand_in.enter_context(stand_in_for_vllm())
                work_of(task, process, node, dies, tell=tell, clock=self.clock)

        try:
            await asyncio.get_running_loop().run_in_executor(thread, context.run, work)
        finally:
            stand_in.close()  # a thread that is given up may never do so
            thread.shutdown()
            state.release()
        return self._reports[process]


def _has_failed(report: ProcessReport) -> bool:
    """Return True if a hook of a process has failed, or the process died in one."""
    return report.failure is not None or bool(report.running)


class _Died(BaseException):
    """The process has died."""


def work_of(
    task: ProcessTask,
    process: Process,
    node: Node,
    dies: str | None,
    *,
    tell: Callable[[ProcessReport], object],
    clock: Callable[[], float],
) -> None:
    """Run the hooks of a process in the calling thread.

    Args:
        task: the work.
        process: which process it is.
        node: the node that it runs on.
        dies: the hook in which it dies, by a name of it; empty for its first; ``None`` if it does not.
        tell: is given the report so far before each hook, and the whole one at the end.
        clock: the clock, which shows the seconds since the run began.
    """

    def tell_and_die(report: ProcessReport) -> None:
        tell(report)
        if dies is not None and report.running and (not dies or is_called(path_in(report.running), dies)):
            raise _Died

    with suppress(_Died, KeyboardInterrupt):  # which ends a process of vLLM's too
        run_task(task, process, node=node, tell=tell_and_die, clock=clock, epoch_s=0.0, environ=os.environ)
