"""The processes of a replica's nodes, as its cluster port asks for them."""

from __future__ import annotations

import asyncio
import os
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import NodeLostError
from serve_llm_hooks._process.task import ProcessReport

from .._simulation.simulated_cluster import SimulatedCluster
from .._virtual_time.system_clocks import current_clock
from ..errors import HarnessError
from .channel import Broken
from .child import Job
from .engine_work import EngineOutcome, EngineWork
from .node_work import CancelWork, NodeOutcome, NodeWork, faults_on_node, settings_for_node

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from serve_llm_hooks import HookName
    from serve_llm_hooks._core.node import Node
    from serve_llm_hooks._node.task import NodeReport, NodeTask
    from serve_llm_hooks._process.task import Process, ProcessTask

    from .._simulation.settings import ClusterSettings
    from .replaced import Names
    from .rounds import Member, ProcessMember, Rounds
    from .surroundings import Surroundings
    from .timeline import Timeline

    Outcome: TypeAlias = NodeOutcome | EngineOutcome | Broken | str

_AFTER_NODES = 1_000_000  # the places of the engine's processes, behind those of all nodes
_POLITE_CANCEL_S = 3.0  # how long a cancelled task may take to stop by itself, as in production


@dataclass(frozen=True)
class StartNode:
    """Posted by the replica: start a process on a node. ``number`` tells it from others."""

    number: int
    work: NodeWork
    env_vars: dict[str, str]


@dataclass(frozen=True)
class StartEngineProcess:
    """Posted by the replica: start a process of its engine. ``number`` tells it from others."""

    number: int
    work: EngineWork
    env_vars: Mapping[str, str]


@dataclass(frozen=True)
class CancelNode:
    """Posted by the replica: cancel the work, politely or by force."""

    number: int
    by_force: bool


@dataclass(frozen=True)
class NodeAnswer:
    """Sent to the replica: what a node's process has come to, or how it has ended without."""

    number: int
    outcome: Outcome


@dataclass(frozen=True)
class EngineProcessReport:
    """Sent to the replica: what a process of its engine has told, pickled."""

    report: bytes


class ProcessCluster(SimulatedCluster):
    """A simulated cluster whose nodes do their work in processes of their own.

    Attributes:
        notes: problems that nodes have told.
    """

    def __init__(self, timeline: Timeline, settings: ClusterSettings, time: Callable[[], float]) -> None:
        super().__init__(settings, time)
        self.notes: list[str] = []
        self._timeline = timeline
        timeline.take = self._take
        self._answers: list[asyncio.Future[Outcome]] = []

    def _take(self, answer: NodeAnswer | EngineProcessReport) -> None:
        if isinstance(answer, EngineProcessReport):
            self._hear(pickle.loads(answer.report))
            return
        future = self._answers[answer.number]

        def give() -> None:
            if not future.done():
                future.set_result(answer.outcome)

        if future.get_loop().is_running() and future.get_loop() is not asyncio.get_running_loop():
            future.get_loop().call_soon_threadsafe(give)  # that of the background
        else:
            give()

    async def _work_on_node(self, task: NodeTask, runtime_env: dict[str, Any] | None) -> NodeReport | HookName:
        """Do a node's work in a process of its own. When cancelled, cancel it there, politely and then by force."""
        loop = asyncio.get_running_loop()
        clock = current_clock()
        assert clock is not None
        number, future = self._expect_answer(loop)
        faults = faults_on_node(self.settings, task.node_id)
        work = NodeWork(task, settings_for_node(self.settings, faults), clock.now_s, clock.beginning)
        env_vars = {**self.processes.variables, **((runtime_env or {}).get("env_vars") or {})}
        self._timeline.posts.append(StartNode(number, work, {key: str(value) for key, value in env_vars.items()}))
        try:
            await asyncio.wait([future])
        except asyncio.CancelledError:
            for by_force in (False, True):
                self._timeline.posts.append(CancelNode(number, by_force))
                await asyncio.wait([future], timeout=_POLITE_CANCEL_S)
                if future.done():
                    break
            if future.done():
                self._note(task, future.result())
            raise
        return self._answer_of(task, future.result())

    async def _work_in_process(
        self, task: ProcessTask, process: Process, node: Node, dies: str | None
    ) -> ProcessReport:
        """Run the hooks in a process of its own."""
        loop = asyncio.get_running_loop()
        clock = current_clock()
        assert clock is not None
        number, future = self._expect_answer(loop)
        limit_s = self.settings.real_sleep_limit_s
        work = EngineWork(task, process, node, dies, limit_s, clock.now_s, clock.beginning)
        # All but Ray's task are children of the replica, and have what its hooks have put into its environment.
        inherited = {} if process.role == "config" else dict(os.environ)
        self._timeline.posts.append(StartEngineProcess(number, work, {**inherited, **self._environ_of(process)}))
        outcome = await future
        if isinstance(outcome, EngineOutcome):
            self.notes += outcome.notes
            return self._reports[process]
        if isinstance(outcome, Broken):
            what = "setup= failed" if outcome.in_setup else "the harness failed"
            raise HarnessError(f"{what} in {process.name} of the engine:\n{outcome.traceback.rstrip()}")
        self.notes.append(f"{process.name} of the engine {outcome}")  # a hook has ended it
        return self._reports.get(process) or ProcessReport(process, 0, node, running=task.hooks[0].ref)

    def _expect_answer(self, loop: asyncio.AbstractEventLoop) -> tuple[int, asyncio.Future[Outcome]]:
        self._answers.append(loop.create_future())
        return len(self._answers) - 1, self._answers[-1]

    def _note(self, task: NodeTask, outcome: Outcome) -> None:
        if isinstance(outcome, NodeOutcome):
            node = self.start.run.nodes[task.node_id]
            node.downloaded += outcome.downloaded
            node.path = node.path if outcome.path is None else outcome.path
            faults = faults_on_node(self.settings, task.node_id)
            self.triggered += [faults[index] for index in outcome.struck]
            self.notes += outcome.notes

    def _answer_of(self, task: NodeTask, outcome: Outcome) -> NodeReport | HookName:
        self._note(task, outcome)
        if isinstance(outcome, str):
            raise NodeLostError(
                f"{task.node} was lost while model {task.model_id!r} was initialized there: its process {outcome}",
                node_id=task.node_id,
            )
        if isinstance(outcome, Broken):
            what = "setup= failed" if outcome.in_setup else "the harness failed"
            raise HarnessError(f"{what} in the process of {task.node}:\n{outcome.traceback.rstrip()}")
        assert isinstance(outcome, NodeOutcome)
        if outcome.died_at is not None:
            return outcome.died_at
        assert outcome.report is not None
        report: NodeReport = pickle.loads(outcome.report)
        return report


class NodeProcesses:
    """Starts and cancels what the replica posts, and posts what comes of it.

    Args:
        rounds: the processes of the run.
        replica: the member that posts.
        surroundings: what processes get of the test's.
        folder: for the working directories of the nodes but the replica's own.
        names: those of the test's process, to be compared with a node's.
    """

    def __init__(
        self, rounds: Rounds, replica: Member, surroundings: Surroundings, folder: Path, names: Names | None = None
    ) -> None:
        self._rounds = rounds
        self._replica = replica
        self._surroundings = surroundings
        self._folder = folder
        self._names = names or {}
        self._running: dict[int, ProcessMember] = {}

    def deliver(self) -> None:
        """Do what the replica has posted, and post to it what has ended, in the order of the nodes."""
        posts, self._replica.posts = self._replica.posts, []
        for post in posts:
            if isinstance(post, StartNode):
                self._start(post)
            elif isinstance(post, StartEngineProcess):
                self._start_engine_process(post)
            elif isinstance(post, CancelNode) and post.number in self._running:
                self._cancel(self._running[post.number], by_force=post.by_force)
        for number, member in sorted(self._running.items(), key=lambda item: item[1].order):
            told, member.posts = member.posts, []
            self._replica.inbox += map(EngineProcessReport, told)
            if member.state == "ended":
                del self._running[number]
                self._rounds.remove(member)
                outcome = member.failure if member.result is None else member.result
                self._replica.inbox.append(NodeAnswer(number, outcome or "ended without a word"))

    def _start(self, post: StartNode) -> None:
        task = post.work.task
        folder = self._surroundings.folder
        if not task.is_local:
            folder = os.fspath(self._folder / task.node_id)
            Path(folder).mkdir(exist_ok=True)

        names, self._names = self._names, {}  # one node is enough

        def job(dump_file: str) -> Job:
            return Job(self._surroundings.on_node(folder, dump_file, post.env_vars), post.work, names)

        order = 1 + int(task.node_id.removeprefix("node-"))
        self._running[post.number] = self._rounds.start(task.node_id, order, job)

    def _start_engine_process(self, post: StartEngineProcess) -> None:
        process = post.work.process

        def job(dump_file: str) -> Job:
            return Job(self._surroundings.on_node(self._surroundings.folder, dump_file, post.env_vars), post.work)

        order = _AFTER_NODES + {"config": 0, "core": 1}.get(process.role, 2 + (process.rank or 0))
        self._running[post.number] = self._rounds.start(process.name, order, job)

    def _cancel(self, member: ProcessMember, *, by_force: bool) -> None:
        if by_force:
            self._rounds.kill(member, "was killed, since it did not stop when it was cancelled")
        else:
            member.inbox.append(CancelWork())
