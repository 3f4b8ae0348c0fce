"""The work of a node's process: the task that it is sent, and what it sends back."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import cloudpickle

from serve_llm_hooks._core.errors import expect_no_interrupt

from .._monitor.session import monitored_loop
from .._simulation.process import SimulatedProcess
from .._simulation.settings import ClusterSettings
from .._simulation.simulated_cluster import SimulatedCluster
from .._simulation.start import ReplicaStart
from .._simulation.timing import context_on_node
from ..faults import DownloadFault
from .channel import Done
from .timeline import RemoteTimeline, SharedTimeLoop

if TYPE_CHECKING:
    from serve_llm_hooks import DownloadMode, HookName
    from serve_llm_hooks._node.task import NodeReport, NodeTask

    from .._virtual_time.clock import Beginning
    from ..faults import Fault
    from .channel import Channel

ResultT = TypeVar("ResultT")

_CANCEL_S = 1.0  # tasks that hooks left running have this long to clean up, as in production


@dataclass(frozen=True)
class CancelWork:
    """Sent to a node's process: cancel the work, as Ray would."""


@dataclass(frozen=True)
class NodeOutcome:
    """The result of a node's process.

    Attributes:
        report: the pickled report of its task; ``None`` if it was cancelled, or is about to die.
        died_at: the hook point after which a fault kills it.
        downloaded, path: as in :class:`FakeNode`.
        struck: the indexes of the faults that have happened, among those that it was sent.
        notes: problems that did not make it fail.
    """

    report: bytes | None
    died_at: HookName | None
    downloaded: tuple[DownloadMode, ...]
    path: str | None
    struck: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class NodeWork:
    """A task for a process of its own.

    Attributes:
        task: what production sends to a node, with the faults that happen in its hooks.
        settings: the cluster's, as far as they matter there, pickled.
        now_s: the virtual time at which it begins.
        beginning: the system's clocks when the run began.
    """

    task: NodeTask
    settings: bytes
    now_s: float
    beginning: Beginning

    def run(self, channel: Channel) -> None:
        """Do the node's task in this process, in its main thread, as a worker of Ray's does."""
        expect_no_interrupt()
        settings: ClusterSettings = pickle.loads(self.settings)
        if settings.timing is not None and not self.task.is_local:
            os.environ["TMPDIR"] = os.getcwd()  # a node's own, as its working directory is
        timeline = RemoteTimeline(channel)
        make_loop = partial(ProcessLoop, timeline, self.now_s, self.beginning)
        with monitored_loop(settings.real_sleep_limit_s, make_loop=make_loop) as monitor:
            cluster = SimulatedCluster(settings, monitor.loop.time)
            cluster.start = ReplicaStart(self.task.model_id, [self.task.node_id])
            report, died_at, is_killed = monitor.loop.run_until_complete(_work(cluster, self.task, timeline))
            monitor.loop.finish()
            monitor.note_skipped_waits()
            if not is_killed:
                monitor.note_remains()
            node = cluster.start.run.nodes[self.task.node_id]
            outcome = NodeOutcome(
                report=None if report is None else pickle.dumps(report),
                died_at=died_at,
                downloaded=tuple(node.downloaded),
                path=node.path,
                struck=tuple(
                    index
                    for index, fault in enumerate(settings.faults)
                    if any(fault is each for each in cluster.triggered)
                ),
                notes=tuple(monitor.notes),
            )
            channel.send(Done(outcome))
            if is_killed:
                os.kill(os.getpid(), signal.SIGKILL)


class ProcessLoop(SharedTimeLoop):
    """The loop of a process that ends with its work, and with it whatever hooks have left in it."""

    def finish(self) -> None:
        """End the clock. Nobody waits for what is left."""
        self.clock.end()


class _Killable(SimulatedProcess[ResultT]):
    """A process that is really killed, and so runs no code of its hooks any more."""

    is_killed: bool = False

    def kill(self) -> None:
        self.is_killed = not self._task.done()


async def _work(
    cluster: SimulatedCluster, task: NodeTask, timeline: RemoteTimeline
) -> tuple[NodeReport | None, HookName | None, bool]:
    """Do the work.

    Returns:
        Its report, or ``None`` if it was cancelled or is killed; the point at which a fault kills it; whether it is.
    """
    loop = asyncio.get_running_loop()
    process = _Killable(cluster.node_work(task, os.environ), context_on_node(cluster.settings.timing, task.node_id))
    waiting = loop.create_task(process.wait(), context=Context())

    def take(message: object) -> None:
        assert isinstance(message, CancelWork)
        waiting.cancel()

    timeline.take = take
    try:
        report = await waiting
    except asyncio.CancelledError:
        report = None
    if process.died_at is not None or process.is_killed:
        return None, process.died_at, True
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for each in left:
        each.cancel()
    if left:
        await asyncio.wait(left, timeout=_CANCEL_S)
    return report, None, False


def settings_for_node(settings: ClusterSettings, faults: list[Fault]) -> bytes:
    """Return a cluster's settings as a node's process needs them, pickled, with these faults."""
    own = object.__new__(ClusterSettings)  # a test may have a subclass, which nodes need not know
    vars(own).update({**vars(settings), "faults": tuple(faults), "setup": None, "engine_check": None})
    return cloudpickle.dumps(own)


def faults_on_node(settings: ClusterSettings, node_id: str) -> list[Fault]:
    """Return the faults that happen in the process of a node."""
    return [fault for fault in settings.faults if isinstance(fault, DownloadFault) and fault.node_id == node_id]
