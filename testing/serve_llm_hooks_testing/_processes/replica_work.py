"""The work of a replica's process: one start, from the config that it is sent to the run that it sends back."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from .._monitor.session import monitored_loop
from .._simulation.fault_hooks import have_failed
from .._simulation.process import SimulatedProcess
from .._simulation.replica import seconds_to_stop, start_once
from .._simulation.start import ReplicaStart
from ..errors import DeadlockError
from .channel import Done
from .node_processes import ProcessCluster
from .node_work import ProcessLoop
from .packed_run import pack_run
from .timeline import RemoteTimeline

if TYPE_CHECKING:
    from serve_llm_hooks import HookName

    from .._monitor.monitor import Monitor
    from .._simulation.settings import ClusterSettings
    from .._virtual_time.clock import Beginning
    from ..run import FakeRun
    from .channel import Channel
    from .packed_run import PackedRun


@dataclass(frozen=True)
class ReplicaOutcome:
    """The result of a replica's process.

    Attributes:
        run: the run.
        has_died: whether the process is killed.
        died_at: the hook point after which a fault kills it.
        struck: the indexes of the cluster's faults that have happened.
        notes: problems that did not make it fail, its own and its nodes'.
    """

    run: PackedRun
    has_died: bool
    died_at: HookName | None
    struck: tuple[int, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ReplicaWork:
    """A start for a process of its own.

    Attributes:
        settings, config: the cluster's settings and the replica's config, pickled.
        deadly: the hook points after which the process dies.
        now_s: the virtual time at which it begins.
        beginning: the system's clocks when the run began.
    """

    settings: bytes
    config: bytes
    deadly: tuple[HookName, ...]
    now_s: float
    beginning: Beginning

    def run(self, channel: Channel) -> None:
        """Do the start in a thread: Serve runs a replica's event loop in one that is not the main thread."""
        failures: list[BaseException] = []

        def work() -> None:
            try:
                self._run(channel)
            except BaseException as error:  # raised again below, where it is told
                failures.append(error)

        thread = threading.Thread(target=work, name="replica's event loop")
        thread.start()
        thread.join()
        if failures:
            raise failures[0]

    def _run(self, channel: Channel) -> None:
        settings: ClusterSettings = pickle.loads(self.settings)
        config = pickle.loads(self.config)
        timeline = RemoteTimeline(channel)
        make_loop = partial(ProcessLoop, timeline, self.now_s, self.beginning)
        with monitored_loop(settings.real_sleep_limit_s, make_loop=make_loop) as monitor:
            cluster = ProcessCluster(timeline, settings, monitor.loop.time)
            cluster.start = ReplicaStart(str(config.model_id), settings.node_names)
            try:
                run, process = monitor.loop.run_until_complete(_start(cluster, config, self.deadly))
            except DeadlockError as error:
                run, process = cluster.start.end(error, cluster.clock()), None
            initialization = cluster.start.initialization
            at_its_end: tuple[Exception, ...] = ()
            if settings.stops_replica and run.error is None and process is None and initialization is not None:
                ending = initialization.shut_down(seconds_to_stop(initialization))
                at_its_end = monitor.loop.run_until_complete(ending)
                cluster.triggered += have_failed(cluster.start.failing, run)
            channel.send(Done(_outcome(run, process, cluster, monitor, at_its_end)))
            if process is not None:
                os.kill(os.getpid(), signal.SIGKILL)


async def _start(
    cluster: ProcessCluster, config: Any, deadly: tuple[HookName, ...]
) -> tuple[FakeRun, SimulatedProcess[FakeRun] | None]:
    """Start the replica once. Return the run, and the process if it dies."""
    process = SimulatedProcess(start_once(cluster, config, deadly), copy_context())
    if cluster.settings.timing is not None:
        cluster.settings.timing.call_at_death(process.die)
    run = await process.wait()
    return (cluster.start.die(cluster.clock(), process.died_at), process) if run is None else (run, None)


def _outcome(
    run: FakeRun,
    died: SimulatedProcess[FakeRun] | None,
    cluster: ProcessCluster,
    monitor: Monitor,
    at_its_end: tuple[Exception, ...],
) -> ReplicaOutcome:
    monitor.loop.finish()
    monitor.note_skipped_waits()
    monitor.note_remains()
    faults = cluster.settings.faults
    return ReplicaOutcome(
        run=pack_run(run, known_objects(cluster.settings), at_its_end),
        has_died=died is not None,
        died_at=None if died is None else died.died_at,
        struck=tuple(index for index, fault in enumerate(faults) if any(fault is each for each in cluster.triggered)),
        notes=(*monitor.notes, *cluster.notes),
    )


def known_objects(settings: ClusterSettings) -> list[object]:
    """Return the objects of a test that a run may give back, and that are then these very objects."""
    errors = (getattr(fault, "error", None) for fault in settings.faults)
    return [settings.default_group, *(error for error in errors if isinstance(error, BaseException))]
