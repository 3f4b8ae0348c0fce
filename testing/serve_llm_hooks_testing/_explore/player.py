"""Play a schedule: a start, its end, and the next start on the same machines. Tell what did not hold."""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from .._simulation.replica import run_replica
from .judge import is_refused, problems_of_next_start, problems_of_remains, problems_of_start
from .loop import ExploredCluster, ExploringLoop, Remains

if TYPE_CHECKING:
    from .._checks.targets import Target
    from ..run import FakeRun
    from .judge import Problem
    from .schedule import Schedule
    from .world import World

# Rules that say nothing of what processes share, and what only the test's own process can see.
_SEEN_HERE = ("nothing is left", "it can be cancelled")
# As the note of a run in processes says it.
_REPLACED = "replaced in the test's process"


@dataclass
class Played:
    """The result of a schedule.

    Attributes:
        runs: the start, and the next one.
        problems: what did not hold.
        is_comparable: whether it means anything for what is in the test's own process.
    """

    runs: list[FakeRun] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    is_comparable: bool = True


class Player:
    """Plays schedules with the hooks of one model.

    Args:
        target: the model and its hooks.
        world: puts back what earlier plays have left.
        limit_s: seconds of real time that what is at work is waited for.

    Attributes:
        in_processes: whether replica and nodes are in processes of their own: what hooks keep in one process has
            otherwise led to problems that would not be there.
        starts: how many starts were run.
    """

    def __init__(self, target: Target, world: World, limit_s: float) -> None:
        self._target = target
        self._world = world
        self._limit_s = limit_s
        self.in_processes: bool = False
        self.starts: int = 0

    def play(self, schedule: Schedule) -> Played:
        """Play a schedule where this player plays."""
        return self._play(schedule, in_processes=self.in_processes)

    def start(self, schedule: Schedule) -> FakeRun:
        """Run only the start of a schedule."""
        with self._world.history():
            return self._run(schedule, Remains(), in_processes=self.in_processes)

    def is_of_processes(self, schedule: Schedule, problem: Problem) -> bool:
        """Return whether a problem shows also in processes of their own, as in production, or could not be there.

        Without them a replica and its nodes share the modules and the temporary folder, as do all starts.
        """
        if sys.platform != "linux" or problem.rule in _SEEN_HERE:
            return True
        played = self._play(schedule, in_processes=True)
        return not played.is_comparable or any(each.key == problem.key for each in played.problems)

    def _play(self, schedule: Schedule, *, in_processes: bool) -> Played:
        played, remains = Played(), Remains()
        with self._world.history():
            run = self._run(schedule, remains, in_processes=in_processes)
            played.runs.append(run)
            if run.error is None and run._stop is not None and not in_processes:
                run.notes += run._stop(None)[1]
            played.problems += problems_of_start(run, schedule, tuple(self._target.own_hooks))
            played.problems += problems_of_remains(run, remains)
            if not played.problems:
                again = self._run(schedule.without_faults(), Remains(), in_processes=in_processes)
                played.runs.append(again)
                played.problems += problems_of_next_start(again, run)
            played.problems = [each.without(self._world.folder) for each in played.problems]
        played.is_comparable = not any(
            is_refused(each.error) or any(_REPLACED in note for note in each.notes) for each in played.runs
        )
        return played

    def _run(self, schedule: Schedule, remains: Remains, *, in_processes: bool) -> FakeRun:
        self._world.new_process()
        self.starts += 1
        settings = schedule.settings(self._limit_s)
        settings.disks = os.path.join(tempfile.gettempdir(), "disks")  # the next start is on the same machines
        config = self._target.make(())
        if not in_processes:
            make_loop = partial(ExploringLoop, remains)
            return run_replica(settings, config, make_loop=make_loop, make_cluster=ExploredCluster)
        from .._processes.remote_replica import run_in_processes

        settings.stops_replica = True
        return run_in_processes(settings, config)
