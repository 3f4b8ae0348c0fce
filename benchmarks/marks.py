"""Moments and parts of a cold start, noted by all its processes in one file.

Ray alone notes its moments with this too, so nothing here imports this library, nor anything else that costs.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

VARIABLE = "BENCH_MARKS"


def mark(name: str, at_s: float | None = None) -> None:
    """Note a moment: now, or seconds since the epoch."""
    _note("moment", name, time.time() if at_s is None else at_s)


def part(name: str, took_s: float) -> None:
    """Note how long a part of this library's own work took."""
    _note("part", name, took_s)


def _note(*row: object) -> None:
    # The driver, which imports the timed server as well, has no file: nothing of it is noted twice.
    if file_name := os.environ.get(VARIABLE):
        with open(file_name, "a") as file:
            file.write(json.dumps([*row, os.getpid()]) + "\n")


def read(file: Path) -> tuple[dict[str, float], dict[str, float]]:
    """The moments, and the parts.

    Of nodes that worked at the same time, the one that took longest counts: the others made nobody wait. Whatever else
    imports the timed server (Serve's controller) is no replica: only those count that have a start.
    """
    rows: list[tuple[str, str, float, int]] = [tuple(json.loads(line)) for line in file.read_text().splitlines()]
    starts = {process for _, name, _, process in rows if name == "replica: start"}
    moments: dict[str, float] = {}
    nodes: dict[int, dict[str, float]] = {}
    parts: dict[str, float] = {}
    for kind, name, value, process in rows:
        if name.startswith("replica: ") and process not in starts:
            continue
        if kind == "moment":
            moments[name] = value
            continue
        to = nodes.setdefault(process, {}) if name.startswith("node: ") else parts
        to[name] = to.get(name, 0.0) + value
    slowest = max(nodes.values(), key=lambda found: sum(found.values()), default={})
    return moments, parts | slowest


def process_start_s() -> float:
    """When this process was started, in seconds since the epoch, to a hundredth."""
    with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
        ticks = int(stat.read().rpartition(")")[2].split()[19])  # the fields after the name, which may have blanks
        up_s = float(uptime.read().split()[0])
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")


def timed(owner: Any, name: str, note: Any) -> None:
    """Put a stopwatch around a function: ``note`` is given the seconds of each call."""
    function = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        begun_s = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            note(time.perf_counter() - begun_s)

    setattr(owner, name, call)
