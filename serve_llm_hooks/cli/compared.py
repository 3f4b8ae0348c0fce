"""Two starts side by side: each hook once, with what it took in each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from serve_llm_hooks import HOOK_POINTS

from .timeline import STACKED_BELOW, seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serve_llm_hooks import HookEvent

    from .output import Screen

# A hook that was given a parameter since is the same hook; "#2" is another, and a file's name may have brackets too.
_PARAMETERS = re.compile(r"\([^()]*\)(?=#\d+$|$)")


class Side(NamedTuple):
    """A hook in one start.

    Attributes:
        calls: how often it was called; on several nodes, once on each.
        start_s: when the first call began, in seconds from the first hook of the start.
        took_s: how long the longest call took.
        outcomes: how the calls ended, each outcome once.
    """

    calls: int
    start_s: float
    took_s: float
    outcomes: tuple[str, ...]


class Row(NamedTuple):
    """A hook in both starts; ``None`` where it was not."""

    point: str
    hook: str
    a: Side | None
    b: Side | None
    difference_s: float | None

    def as_json(self) -> dict[str, object]:
        """Return it as a mapping, with its sides as mappings."""
        sides = {name: side and side._asdict() for name, side in (("a", self.a), ("b", self.b))}
        return {**self._asdict(), **sides}


def compared(a: Iterable[HookEvent], b: Iterable[HookEvent]) -> list[Row]:
    """Return the hooks of two starts, in the order of the points and of their first calls."""
    first, second = _sides(a), _sides(b)
    points = list(HOOK_POINTS)
    keys = sorted(
        dict.fromkeys([*first, *second]), key=lambda key: points.index(key[0]) if key[0] in points else len(points)
    )
    rows = []
    for point, hook in keys:
        left, right = first.get((point, hook)), second.get((point, hook))
        difference_s = right.took_s - left.took_s if left and right else None
        rows.append(Row(point, hook, left, right, difference_s))
    return rows


def _sides(trace: Iterable[HookEvent]) -> dict[tuple[str, str], Side]:
    calls: dict[tuple[str, str], list[HookEvent]] = {}
    for event in sorted(trace, key=lambda each: each.start_s):
        part = event.label.removeprefix(event.hook)  # of a hook with a `yield`
        calls.setdefault((event.point, _PARAMETERS.sub("", event.hook) + part), []).append(event)
    begin_s = min((events[0].start_s for events in calls.values()), default=0.0)
    return {
        key: Side(
            calls=sum(event.ran for event in events),
            start_s=events[0].start_s - begin_s,
            took_s=max(event.duration_s for event in events),
            outcomes=tuple(dict.fromkeys(event.outcome for event in events)),
        )
        for key, events in calls.items()
    }


def write_compared(screen: Screen, rows: Sequence[Row]) -> None:
    """Write what each hook took in A and in B: side by side, or below each other where the screen is narrow."""
    if not rows:
        screen.line("no hook ran in either", indent=2)
    elif screen.width is not None and screen.width < STACKED_BELOW:
        _write_stacked(screen, rows)
    else:
        _write_in_columns(screen, rows)


def _write_stacked(screen: Screen, rows: Sequence[Row]) -> None:
    for row in rows:
        screen.line((row.hook, "bold"), f" at {row.point}", indent=2)
        for name, side in (("A", row.a), ("B", row.b)):
            at, took = _times(side)
            screen.line(f"{name}  at {at}, took {took}{_more(side)}" if side else f"{name}  {took}", indent=4)
        if row.difference_s is not None:
            screen.line(f"B - A  {_signed(row.difference_s)}", indent=4)


def _write_in_columns(screen: Screen, rows: Sequence[Row]) -> None:
    cells = [("A at", "took", "B at", "took", "B - A")]
    for row in rows:
        difference = "" if row.difference_s is None else _signed(row.difference_s)
        cells.append((*_times(row.a), *_times(row.b), difference))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    head, *lines = ["  ".join(map(str.rjust, each, widths)) for each in cells]
    screen.line((f"{head}  hook", "bold"), indent=2)
    for line, row in zip(lines, rows, strict=True):
        screen.line(f"{line}  {row.hook.rpartition(':')[2]} ({row.point})", indent=2)
        for text in _said([("A", row.a), ("B", row.b)]):
            screen.line(text, indent=len(head) + 4)


def _said(sides: Sequence[tuple[str, Side | None]]) -> list[str]:
    """Return what there is to say of the sides besides their times; once, where it is the same."""
    said = [f"{name}{_more(side)}" for name, side in sides if _more(side)]
    both = {_more(side) for _, side in sides}
    return [f"A and B{both.pop()}"] if len(said) == len(sides) and len(both) == 1 else said


def _times(side: Side | None) -> tuple[str, str]:
    return ("", "not there") if side is None else (seconds(side.start_s), seconds(side.took_s))


def _more(side: Side | None) -> str:
    """Return what there is to say of a hook besides its time: on how many nodes, how it ended."""
    if side is None:
        return ""
    calls = f", the longest of {side.calls} calls" if side.calls > 1 else ""
    return calls + "".join(f", {outcome}" for outcome in side.outcomes if outcome != "ok")


def _signed(difference_s: float) -> str:
    return f"{'+' if difference_s >= 0 else '-'}{seconds(abs(difference_s))}"
