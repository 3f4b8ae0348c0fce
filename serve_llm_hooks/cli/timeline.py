"""A trace as a timeline: each hook call is a bar on one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serve_llm_hooks import HookEvent

    from .output import Screen

STYLES = {
    "ok": "green",
    "vetoed": "cyan",
    "failed": "bold red",
    "timed_out": "bold red",
    "cancelled": "yellow",
    "warned": "yellow",
    "disabled": "dim",
    "skipped": "dim",
    "replayed": "dim",
}
PIPE_WIDTH = 110
STACKED_BELOW = 72  # columns; a narrower screen has the bars on lines of their own
_LONGEST_BAR = 40
_MANY_NODES = 8


def write_timeline(screen: Screen, trace: Iterable[HookEvent], *, indent: int = 2) -> None:
    """Write the hook calls of a start in the order in which they began."""
    events = sorted(trace, key=lambda event: event.start_s)
    if not events:
        screen.line("no hook ran", indent=indent)
        return
    width = (screen.width or PIPE_WIDTH) - indent
    write = _write_stacked if width < STACKED_BELOW else _write_in_columns
    write(screen, _placed(events), width, indent)


def place_of(event: HookEvent) -> str:
    """Return where a hook ran, shortly: the replica, the node, or the process of the engine."""
    if event.process:
        return event.process
    point = HOOK_POINTS.get(event.point)
    return "replica" if point is not None and not point.on_node else event.node_id[:8] or "node"


def _where(event: HookEvent) -> str:
    return f"{event.point}, finish" if event.is_finish else event.point


def _placed(events: Sequence[HookEvent]) -> list[tuple[HookEvent, str]]:
    """Return events with where they ran; what many nodes did at once, as in virtual time, is one event."""
    alike: dict[tuple[object, ...], list[HookEvent]] = {}
    for event in events:
        key = (event.point, event.label, event.start_s, event.end_s, event.outcome, event.detail)
        alike.setdefault(key, []).append(event)
    placed: list[tuple[HookEvent, str]] = []
    for same in alike.values():
        count = len({event.node_id for event in same})
        placed += [(same[0], f"{count} nodes")] if count > _MANY_NODES else [(each, place_of(each)) for each in same]
    return placed


def seconds(value: float) -> str:
    """Return a duration, as precise as it is interesting.

    Example:
        >>> seconds(0.0042), seconds(12.3456), seconds(1800)
        ('0.004 s', '12.35 s', '1800 s')
    """
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    return f"{value:.{digits}f} s"


def _write_in_columns(screen: Screen, placed: Sequence[tuple[HookEvent, str]], width: int, indent: int) -> None:
    begin_s, end_s = _axis(placed)
    cells = [(seconds(event.start_s - begin_s), seconds(event.duration_s), place) for event, place in placed]
    start_width, took_width, place_width = (max(map(len, column)) for column in zip(*cells, strict=True))
    before = start_width + took_width + place_width + 6
    bar_width = max(10, min(_LONGEST_BAR, (width - before) // 3))
    name_width = max(12, width - before - bar_width - 4)
    for (event, place), (start, took, _) in zip(placed, cells, strict=True):
        name = f"{event.name} ({_where(event)})"
        screen.line(
            f"{start.rjust(start_width)}  {took.rjust(took_width)}  {place.ljust(place_width)}  ",
            (_bar(event, begin_s, end_s, bar_width), STYLES.get(event.outcome, "")),
            f"  {name if screen.width is None else _shortened(name, name_width)}",
            indent=indent,
        )
        _write_outcome(screen, event, indent + 2)


def _write_stacked(screen: Screen, placed: Sequence[tuple[HookEvent, str]], width: int, indent: int) -> None:
    begin_s, end_s = _axis(placed)
    for event, place in placed:
        screen.line((event.name, "bold"), f" ({_where(event)})", indent=indent)
        times = f"{place}: at {seconds(event.start_s - begin_s)}, took {seconds(event.duration_s)}"
        screen.line(times, indent=indent + 2)
        bar = _bar(event, begin_s, end_s, max(10, width - 2))
        screen.line((bar, STYLES.get(event.outcome, "")), indent=indent)
        _write_outcome(screen, event, indent + 2)


def _write_outcome(screen: Screen, event: HookEvent, indent: int) -> None:
    if event.outcome != "ok":
        detail = f": {event.detail}" if event.detail else ""
        screen.line((event.outcome, STYLES.get(event.outcome, "")), detail, indent=indent)


def _axis(placed: Sequence[tuple[HookEvent, str]]) -> tuple[float, float]:
    return min(event.start_s for event, _ in placed), max(event.end_s for event, _ in placed)


def _bar(event: HookEvent, begin_s: float, end_s: float, width: int) -> str:
    """Return a line of dots, with blocks while the hook ran: at least one, so that each can be seen."""
    scale = width / (end_s - begin_s) if end_s > begin_s else 0.0
    first = min(width - 1, int((event.start_s - begin_s) * scale))
    last = min(width, max(first + 1, round((event.end_s - begin_s) * scale)))
    mark = "█" if event.ran else "░" if event.outcome == "replayed" else "×"
    return "·" * first + mark * (last - first) + "·" * (width - last)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
