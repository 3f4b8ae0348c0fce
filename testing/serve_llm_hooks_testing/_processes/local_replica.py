"""The replica in the test's own process, and its nodes in processes of their own."""

from __future__ import annotations

import math
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._simulation.replica import run_replica
from ..errors import HarnessError
from .channel import Go, Idle
from .importable import modules_by_value
from .node_processes import NodeProcesses, ProcessCluster
from .replaced import names_of_hooks
from .rounds import Member, Rounds
from .spawning import template
from .surroundings import of_this_process
from .timeline import SharedTimeLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._simulation.settings import ClusterSettings
    from ..run import FakeRun


def run_with_node_processes(settings: ClusterSettings, config: Any) -> FakeRun:
    """Start a replica in the calling thread, as without processes; each node's work is in a process of its own.

    Raises:
        HarnessError: this system has no such processes, or none can be started.
    """
    check_platform()
    clusters: list[ProcessCluster] = []

    def make_cluster(settings: ClusterSettings, time: Callable[[], float]) -> ProcessCluster:
        clusters.append(ProcessCluster(timeline, settings, time))
        return clusters[-1]

    with rounds_in_folder(settings) as (rounds, folder), modules_by_value(config):
        timeline = LocalTimeline(rounds)
        surroundings = of_this_process(settings.setup)
        nodes = NodeProcesses(rounds, timeline.member, surroundings, folder, names_of_hooks(config))
        timeline.deliver = nodes.deliver
        run = run_replica(settings, config, make_loop=partial(_ReplicaLoop, timeline), make_cluster=make_cluster)
    notes = [*run.notes]
    for cluster in clusters:
        notes += cluster.notes
    run.notes = tuple(dict.fromkeys([*notes, *rounds.notes]))
    return run


def check_platform() -> None:
    """Check that processes can be had here.

    Raises:
        HarnessError: they cannot.
    """
    if sys.platform != "linux":
        raise HarnessError(
            f"FakeCluster(processes=...) starts its processes as only Linux can, and this is {sys.platform!r}: leave "
            "processes= out, which runs everything in the test's process"
        )
    if not sys.executable:
        raise HarnessError("FakeCluster(processes=...) needs sys.executable, to start Python with; it is empty here")


@contextmanager
def rounds_in_folder(settings: ClusterSettings) -> Iterator[tuple[Rounds, Path]]:
    """Yield the rounds of a run, and a folder; both end with the ``with`` block, and all processes."""
    template()  # started before there is a run, which would take it for a subprocess of a hook's
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="fake-cluster-", ignore_cleanup_errors=True))
        )
        rounds = Rounds(settings.hang_s, folder, settings.time_limit_s)
        stack.callback(rounds.close)
        yield rounds, folder


class LocalTimeline:
    """The timeline of a replica that runs in this thread: where it waits, the other processes go on.

    Attributes:
        member: the replica, as the rounds see it.
        deliver: does what is posted, and posts what comes of it.
    """

    def __init__(self, rounds: Rounds) -> None:
        self.member = Member("the replica", 0)
        self.posts: list[Any] = []
        self.take: Callable[[Any], object] = print
        self.deliver: Callable[[], object] = list
        self._rounds = rounds
        rounds.add(self.member)

    def wait_for_turn(self, idle: Idle) -> Go:
        """Let the other processes go on, until the replica has something to do."""
        rounds, member = self._rounds, self.member
        member.state, member.idle = "idle", idle
        member.posts += idle.posts
        while True:
            self.deliver()
            if rounds.settle():
                continue
            due = rounds.next_turn()
            if not due:
                return Go(rounds.now_s, deadlock=rounds.deadlock_message())
            rounds.go([each for each in due if each is not member])
            if member in due:
                inbox, member.inbox = tuple(member.inbox), []
                member.state = "running"
                return Go(rounds.now_s, inbox)

    def leave_alone(self) -> None:
        """End the other processes, and the limit of time."""
        self._rounds.kill_all()
        self._rounds.time_limit_s = math.inf
        self.member.inbox.clear()


class _ReplicaLoop(SharedTimeLoop):
    def __init__(self, timeline: LocalTimeline, **arguments: Any) -> None:
        super().__init__(timeline, 0.0, **arguments)
        self._local_timeline = timeline

    def stand_still(self) -> None:
        """End the nodes' processes."""
        self._local_timeline.leave_alone()

    def finish(self) -> None:
        """End the nodes' processes, and close the loop."""
        self._local_timeline.leave_alone()
        super().finish()
