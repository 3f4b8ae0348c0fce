"""Make a schedule smaller, as long as the same problem shows."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..faults import DownloadFault, LostNodeFault, ReplicaDiesFault, UnschedulableFault
from .schedule import MOMENTS, TIMES, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..faults import Fault

ReplacedT = TypeVar("ReplacedT", bound="Schedule | Fault")

_SIMPLE = (1.0, 2.0, 5.0, 10.0, 30.0)

# Fields of faults that hold a time, or a number of times, and what is simplest there.
_SIMPLEST: dict[type[Any], dict[str, float | None]] = {
    DownloadFault: {"seconds": None},
    LostNodeFault: {"noticed_after_s": 5.0},
    ReplicaDiesFault: {"times": 1, "restart_s": 0.0},
    UnschedulableFault: {"after_s": 1800.0},
}


def shrink(schedule: Schedule, shows: Callable[[Schedule], bool], tries: int) -> Schedule:
    """Return the smallest schedule that is found: fewer faults and nodes, no times of its own, rounder numbers.

    Args:
        schedule: one that shows the problem.
        shows: returns whether another does.
        tries: how many others to try.
    """
    is_smaller = True
    while is_smaller:
        is_smaller = False
        for candidate in _smaller(schedule):
            if tries <= 0:
                return schedule
            tries -= 1
            if shows(candidate):
                schedule, is_smaller = candidate, True
                break
    return schedule


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    for index in range(len(schedule.faults)):
        yield replace(schedule, faults=[*schedule.faults[:index], *schedule.faults[index + 1 :]])
    moments = [name for name in MOMENTS if getattr(schedule, name) is not None]
    for name in moments:
        yield _with(schedule, name, None)
    for nodes in range(1, schedule.nodes):
        yield _on_fewer(schedule, nodes)
    for name in TIMES:
        times = getattr(schedule, name)
        if times:
            yield _with(schedule, name, {})
        if len(times) > 1:
            for node_id in times:
                yield _with(schedule, name, {each: value for each, value in times.items() if each != node_id})
    for index, fault in enumerate(schedule.faults):
        for simpler in _simpler(fault):
            yield replace(schedule, faults=[*schedule.faults[:index], simpler, *schedule.faults[index + 1 :]])
    for name in TIMES:
        times = getattr(schedule, name)
        for node_id, value in times.items():
            for rounder in _rounder(value):
                yield _with(schedule, name, {**times, node_id: rounder})
    for name in moments:
        for rounder in _rounder(getattr(schedule, name)):
            yield _with(schedule, name, rounder)


def _on_fewer(schedule: Schedule, nodes: int) -> Schedule:
    names = {f"node-{index}" for index in range(nodes)}
    faults = [fault for fault in schedule.faults if getattr(fault, "node_id", None) in (None, *names)]
    fewer = replace(schedule, nodes=nodes, faults=faults, begins_s={}, download_s={}, awaits_s={})
    for name in TIMES:
        times = getattr(schedule, name)
        fewer = _with(fewer, name, {node_id: value for node_id, value in times.items() if node_id in names})
    return fewer


def _with(value: ReplacedT, name: str, field: object) -> ReplacedT:
    """Return a dataclass with another value of one field."""
    changes: dict[str, Any] = {name: field}
    return replace(value, **changes)


def _simpler(fault: Fault) -> Iterator[Fault]:
    for name, simplest in _SIMPLEST.get(type(fault), {}).items():
        value = getattr(fault, name)
        if value == simplest:
            continue
        yield _with(fault, name, simplest)
        for rounder in _rounder(value) if isinstance(value, float) else ():
            yield _with(fault, name, rounder)


def _rounder(value: float) -> Iterator[float]:
    """Yield simple numbers that are smaller, and numbers nearby that are written shorter."""
    yield from (each for each in _SIMPLE if each < value)
    for digits in range(4):
        scale = 10**digits
        near = {round(value, digits), math.floor(value * scale) / scale, math.ceil(value * scale) / scale}
        yield from (each for each in sorted(near) if len(f"{each:g}") < len(f"{value:g}"))
