"""Run a scenario in processes, watched: all of it in one, or the replica and each node in their own."""

from __future__ import annotations

import copy
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._processes.one_process import run_in_one_process
from .._processes.remote_replica import run_in_processes
from .files import Noted, remove_new_files
from .story import Story, story_of
from .watching import Watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._simulation.settings import ClusterSettings
    from ..run import FakeRun


@dataclass(frozen=True)
class Watched:
    """A run in processes.

    Attributes:
        run: the run.
        processes: what its processes have written down, by their ids.
        story: what it came to.
    """

    run: FakeRun
    processes: Mapping[int, Noted]
    story: Story


def run_watched(
    settings: ClusterSettings, config: Any, *, in_one: bool = False, hidden: tuple[str, ...] = ()
) -> Watched:
    """Run it, stop the replica, and remove the temporary files that it has left.

    Args:
        settings: the cluster's.
        config: the replica's.
        in_one: in one process.
        hidden: files of which each node has its own.

    Raises:
        HarnessError: there are no processes, or they cannot be given their work.
    """
    with tempfile.TemporaryDirectory(prefix="check-hooks-", ignore_cleanup_errors=True) as folder:
        own = copy.copy(settings)
        own.processes, own.stops_replica = True, True
        own.setup = Watch(folder, os.getcwd(), hidden)
        run = run_in_one_process(own, config) if in_one else run_in_processes(own, config)
        processes = {int(file.name.rpartition("-")[2]): _read(file) for file in Path(folder).glob("did-*")}
        remove_new_files(processes.values(), folder)
        noted = (each for process in processes.values() for each in process)
        return Watched(run, processes, story_of(run, noted, folder))


def _read(file: Path) -> Noted:
    lines = file.read_bytes().split(b"\n")[:-1]  # behind the last one is nothing, or what a killed process began
    return [json.loads(line) for line in lines]
