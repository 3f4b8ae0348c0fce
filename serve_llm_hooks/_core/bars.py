"""``bars_of``: a trace's events and steps as bars on one axis of time, each with its place, for whoever draws them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .event import HookEvent, StartStep
from .named_tuple import NamedTuple
from .node import Node
from .points import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterable

REPLICA = "replica"
_ON_NODES = ("node", "download")  # the steps of nodes


class Bar(NamedTuple):
    """Describe a hook call or a step as a picture shows it.

    Attributes:
        place: the replica, the node, or the process of the engine.
        what: the hook's name with its point, or the step's name.
        start_s: when it started: seconds since the start's first event.
        took_s: how long it took.
        outcome: a hook's outcome, ``"step"`` or ``"failed"`` for a step.
        details: what else is known, a line each.
        process_id: the operating system's id of its process.
    """

    place: str
    what: str
    start_s: float
    took_s: float
    outcome: str
    details: tuple[str, ...]
    process_id: int


def bars_of(events: Iterable[HookEvent], steps: Iterable[StartStep]) -> list[Bar]:
    """Return all bars, by their places: the replica, the nodes, the engine's processes; in each by their start."""
    every: list[HookEvent | StartStep] = [*steps, *events]
    begin_s = min((each.start_s for each in every), default=0.0)
    bars = [_of_event(each, begin_s) if isinstance(each, HookEvent) else _of_step(each, begin_s) for each in every]
    in_engine = {bar.place for bar, each in zip(bars, every, strict=True) if each.process}
    by_start = sorted(bars, key=lambda bar: (bar.start_s, -bar.took_s))
    places = list(dict.fromkeys(bar.place for bar in by_start))
    return sorted(by_start, key=lambda bar: (bar.place != REPLICA, bar.place in in_engine, places.index(bar.place)))


def place_of(each: HookEvent | StartStep) -> str:
    """Return where something happened: the replica, the node with its address, or the process of the engine."""
    if each.process:
        return each.process
    if isinstance(each, HookEvent):
        point = HOOK_POINTS.get(each.point)
        on_node = point is None or point.on_node
    else:
        on_node = each.name in _ON_NODES
    return Node(each.node_id, each.address, each.hostname).label if on_node else REPLICA


def name_of(each: HookEvent | StartStep) -> str:
    """Return what a bar is called."""
    if isinstance(each, StartStep):
        return each.name
    return f"{each.title} ({each.point}{', finish' if each.is_finish else ''})"


def size(count: float) -> str:
    """Return a number of bytes as people write it.

    Example:
        >>> size(950), size(15_234_000_000)
        ('950 B', '15.2 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def seconds(value: float) -> str:
    """Return a duration, as precise as it is interesting.

    Example:
        >>> seconds(0.0042), seconds(12.3456), seconds(1800)
        ('0.004 s', '12.35 s', '1800 s')
    """
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    return f"{value:.{digits}f} s"


def _of_event(event: HookEvent, begin_s: float) -> Bar:
    details = (
        f"{event.label} at {event.point}",
        f"{event.outcome}: {event.detail}" if event.detail else event.outcome,
        _where(event),
    )
    return Bar(
        place_of(event),
        name_of(event),
        event.start_s - begin_s,
        event.duration_s,
        event.outcome,
        details,
        event.process_id,
    )


def _of_step(step: StartStep, begin_s: float) -> Bar:
    rate = "" if step.bytes_per_s is None else f", {size(step.bytes_per_s)}/s"
    brought = () if step.size_bytes is None else (f"{size(step.size_bytes)}{rate}",)
    details = (step.name, *brought, *(["failed"] if step.failed else []), _where(step))
    what = f"{name_of(step)}, {brought[0]}" if brought else name_of(step)
    outcome = "failed" if step.failed else "step"
    return Bar(place_of(step), what, step.start_s - begin_s, step.duration_s, outcome, details, step.process_id)


def _where(each: HookEvent | StartStep) -> str:
    process = f"{each.process}, " if each.process else ""
    return f"{process}process {each.process_id} on {Node(each.node_id, each.address, each.hostname)}"
