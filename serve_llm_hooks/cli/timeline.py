"""A trace as a timeline: each hook call, and each other step that took its time, is a bar on one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from serve_llm_hooks import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks import HookEvent, StartStep, Trace

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
SHORT_S = 0.05  # a shorter step is not worth a line
_WHOLE = ("start", "node")  # the steps that others are parts of


class Line(NamedTuple):
    """Describe one line of the timeline: a hook call, or a step of the start that took its time.

    Attributes:
        name: what it is called.
        where: the hook's point, or what a download has brought; empty where there is nothing to say.
        start_s: when it began.
        end_s: when it ended.
        outcome: a hook's outcome; ``"step"`` or ``"failed"`` for a step.
        detail: why, where that is known.
        node_id: the node.
        place: the replica, the node or the process, shortly.
        ran: ``False`` for a hook that was not called.
    """

    name: str
    where: str
    start_s: float
    end_s: float
    outcome: str
    detail: str
    node_id: str
    place: str
    ran: bool = True

    @property
    def title(self) -> str:
        """The name, with where in brackets."""
        return f"{self.name} ({self.where})" if self.where else self.name


def write_timeline(screen: Screen, trace: Trace, *, indent: int = 2) -> None:
    """Write the hook calls and the steps of a start in the order in which they began."""
    shown = [step for step in trace.steps if step.name not in _WHOLE and (step.duration_s >= SHORT_S or step.failed)]
    steps = [_of_step(step) for step in shown]
    lines = sorted([*steps, *map(_of_event, trace)], key=lambda line: line.start_s)
    if not trace.events:
        screen.line("no hook ran", indent=indent)
    if not lines:
        return
    begin_s = min([lines[0].start_s, *(step.start_s for step in trace.steps)])
    width = (screen.width or PIPE_WIDTH) - indent
    write = _write_stacked if width < STACKED_BELOW else _write_in_columns
    write(screen, _together(lines), begin_s, width, indent)


def point_of(event: HookEvent) -> str:
    """Return a hook call's point for tables, with ``, finish`` for the part behind a ``yield``."""
    return f"{event.point}, finish" if event.is_finish else event.point


def _of_event(event: HookEvent) -> Line:
    point = HOOK_POINTS.get(event.point)
    place = event.process or _node(event.node_id, on_node=point is None or point.on_node)
    times = (event.start_s, event.end_s)
    return Line(event.title, point_of(event), *times, event.outcome, event.detail, event.node_id, place, event.ran)


def _of_step(step: StartStep) -> Line:
    place = step.process or _node(step.node_id, on_node=step.name == "download")
    brought = "" if step.size_bytes is None else f"{step.size_bytes / 1e6:,.1f} MB"
    brought += "" if step.bytes_per_s is None else f", {step.bytes_per_s / 1e6:,.1f} MB/s"
    outcome = "failed" if step.failed else "step"
    return Line(step.name, brought, step.start_s, step.end_s, outcome, "", step.node_id, place)


def _node(node_id: str, *, on_node: bool) -> str:
    return (node_id[:8] or "node") if on_node else "replica"


def _together(lines: Sequence[Line]) -> list[Line]:
    """Return what is shown; what many nodes did at once, as in virtual time, is one line."""
    alike: dict[Line, list[Line]] = {}
    for line in lines:
        alike.setdefault(line._replace(node_id="", place=""), []).append(line)
    shown: list[Line] = []
    for same in alike.values():
        count = len({line.node_id for line in same})
        shown += [same[0]._replace(place=f"{count} nodes")] if count > _MANY_NODES else same
    return shown


def seconds(value: float) -> str:
    """Return a duration, as precise as it is interesting.

    Example:
        >>> seconds(0.0042), seconds(12.3456), seconds(1800)
        ('0.004 s', '12.35 s', '1800 s')
    """
    digits = 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0
    return f"{value:.{digits}f} s"


def _write_in_columns(screen: Screen, lines: Sequence[Line], begin_s: float, width: int, indent: int) -> None:
    end_s = max(line.end_s for line in lines)
    cells = [(seconds(line.start_s - begin_s), seconds(line.end_s - line.start_s), line.place) for line in lines]
    start_width, took_width, place_width = (max(map(len, column)) for column in zip(*cells, strict=True))
    before = start_width + took_width + place_width + 6
    bar_width = max(10, min(_LONGEST_BAR, (width - before) // 3))
    name_width = max(12, width - before - bar_width - 4)
    for line, (start, took, place) in zip(lines, cells, strict=True):
        screen.line(
            f"{start.rjust(start_width)}  {took.rjust(took_width)}  {place.ljust(place_width)}  ",
            (_bar(line, begin_s, end_s, bar_width), STYLES.get(line.outcome, "")),
            f"  {line.title if screen.width is None else _shortened(line.title, name_width)}",
            indent=indent,
        )
        _write_outcome(screen, line, indent + 2)


def _write_stacked(screen: Screen, lines: Sequence[Line], begin_s: float, width: int, indent: int) -> None:
    end_s = max(line.end_s for line in lines)
    for line in lines:
        screen.line((line.name, "bold"), f" ({line.where})" if line.where else "", indent=indent)
        times = f"{line.place}: at {seconds(line.start_s - begin_s)}, took {seconds(line.end_s - line.start_s)}"
        screen.line(times, indent=indent + 2)
        screen.line((_bar(line, begin_s, end_s, max(10, width - 2)), STYLES.get(line.outcome, "")), indent=indent)
        _write_outcome(screen, line, indent + 2)


def _write_outcome(screen: Screen, line: Line, indent: int) -> None:
    if line.outcome not in ("ok", "step"):
        detail = f": {line.detail}" if line.detail else ""
        screen.line((line.outcome, STYLES.get(line.outcome, "")), detail, indent=indent)


def _bar(line: Line, begin_s: float, end_s: float, width: int) -> str:
    """Return a row of dots, with blocks while it went on: at least one, so that each can be seen."""
    scale = width / (end_s - begin_s) if end_s > begin_s else 0.0
    first = min(width - 1, int((line.start_s - begin_s) * scale))
    last = min(width, max(first + 1, round((line.end_s - begin_s) * scale)))
    mark = "▒" if line.outcome == "step" else "█" if line.ran else "░" if line.outcome == "replayed" else "×"
    return "·" * first + mark * (last - first) + "·" * (width - last)


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"
