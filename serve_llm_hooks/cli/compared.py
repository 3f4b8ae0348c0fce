"""Two starts side by side: each hook and each other step once, with what it took in each."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple, cast

from serve_llm_hooks import HookEvent

from .timeline import SHORT_S, STACKED_BELOW, point_of, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve_llm_hooks import HookName, StartStep, Trace

    from .output import Screen

# A hook that was given a parameter since is the same hook; "#2" is another, and a file's name may have brackets too.
_PARAMETERS = re.compile(r"\([^()]*\)(?=#\d+$|$)")
_FILE = re.compile(r"_[0-9a-f]{8}(?=:[^:]*$)")  # a hooks file's name has a hash of where the file is
_FINISH = " (finish)"  # as `HookEvent.label` has it
_NUMBER = re.compile(r"-\d+$")  # of a worker
_ALMOST = 0.9  # what differs by this share of the most is marked too: a slow download, and the wait for the nodes


class What(NamedTuple):
    """One row of a comparison: a hook at its point, or a step.

    Attributes:
        hook: the hook, without its parameters, and which of its parts it is; empty for a step.
        point: its point; empty for a step.
        step: the step; empty for a hook.
        role: the part in the engine of the processes that the step was in, as ``"worker"``; empty for others.
    """

    hook: str = ""
    point: str = ""
    step: str = ""
    role: str = ""

    @property
    def title(self) -> str:
        """The name that timelines show, with the point or the role in brackets."""
        if self == WHOLE:
            return "the whole start"
        if self.step:
            return f"{self.step} ({self.role})" if self.role else self.step
        hook = self.hook.removesuffix(_FINISH)  # an event knows how it is called in tables
        event = HookEvent(cast("HookName", self.point), hook, "", 0, 0.0, 0.0, "ok", is_finish=hook != self.hook)
        return f"{event.title} ({point_of(event)})"


WHOLE = What(step="start")


class Side(NamedTuple):
    """A hook or a step in one start.

    Attributes:
        calls: how often it was called, or was there; on several nodes, once on each.
        start_s: when the first began, in seconds from the beginning of the start.
        took_s: how long the longest took.
        longest: the node, or the process of the engine, of the longest; empty where others took as long.
        outcomes: how they ended, each outcome once.
    """

    calls: int
    start_s: float
    took_s: float
    longest: str
    outcomes: tuple[str, ...]


class Row(NamedTuple):
    """A hook or a step in both starts; a side is ``None`` where it was not."""

    what: What
    a: Side | None
    b: Side | None
    differs_most: bool = False

    @property
    def difference_s(self) -> float | None:
        """The seconds that it took longer in B; ``None`` where it was not in both."""
        return self.b.took_s - self.a.took_s if self.a and self.b else None

    @property
    def changed_s(self) -> float:
        """The seconds that it can have changed the start by; where it was not, it took none."""
        return abs((self.b.took_s if self.b else 0.0) - (self.a.took_s if self.a else 0.0))

    def as_json(self) -> dict[str, object]:
        """Return it as a mapping, with its sides as mappings."""
        return {
            **{name: value or None for name, value in self.what._asdict().items()},
            **{name: side and side._asdict() for name, side in (("a", self.a), ("b", self.b))},
            "difference_s": self.difference_s,
            "differs_most": self.differs_most,
        }


def compared(a: Trace, b: Trace) -> list[Row]:
    """Return all of the start first, then the hooks and steps of two starts in the order in which they began.

    Of what was on several nodes, or in several workers, the longest counts. Steps that were short in both, and those
    that others are parts of, are left out.
    """
    first, second = _of_files_that_moved(_sides(a), _sides(b))
    rows = [Row(what, first.get(what), second.get(what)) for what in _in_order(first, second)]
    parts = [row for row in rows if row.what != WHOLE and _is_worth_a_line(row)]
    most_s = max((row.changed_s for row in parts), default=0.0)
    return [
        *(row for row in rows if row.what == WHOLE),
        *(row._replace(differs_most=most_s >= SHORT_S and row.changed_s >= _ALMOST * most_s) for row in parts),
    ]


def _of_files_that_moved(
    first: Mapping[What, Side], second: Mapping[What, Side]
) -> tuple[dict[What, Side], dict[What, Side]]:
    """Give a hook the same name on both sides where its hooks file has moved, if only one hook can be meant."""
    both = first.keys() & second.keys()
    mine, others = (Counter(_without_place(what) for what in sides if what not in both) for sides in (first, second))
    moved = {name for name in mine if mine[name] == others[name] == 1 and name not in both}

    def named(what: What) -> What:
        name = _without_place(what)
        return name if what not in both and name in moved else what

    one, other = ({named(what): side for what, side in sides.items()} for sides in (first, second))
    return one, other


def _without_place(what: What) -> What:
    return what._replace(hook=_FILE.sub("", what.hook))


def _in_order(first: Mapping[What, Side], second: Mapping[What, Side]) -> list[What]:
    """Return what was in A in A's order; what was only in B after what it followed there."""
    found = list(first)
    before = -1
    for what in second:
        if what in first:
            before = found.index(what)
        else:
            before += 1
            found.insert(before, what)
    return found


def _is_worth_a_line(row: Row) -> bool:
    sides = [side for side in (row.a, row.b) if side]
    return not row.what.step or any(side.took_s >= SHORT_S or "failed" in side.outcomes for side in sides)


def _sides(trace: Trace) -> dict[What, Side]:
    """Return what was in a start, in the order of time."""
    groups: dict[What, list[HookEvent | StartStep]] = {}
    every: list[HookEvent | StartStep] = [*trace.steps, *trace]
    begin_s = min((each.start_s for each in every), default=0.0)
    for step in trace.steps:
        if step.name != "node":
            groups.setdefault(What(step=step.name, role=_NUMBER.sub("", step.process)), []).append(step)
    for event in trace:
        part = _FINISH if event.is_finish else ""
        groups.setdefault(What(_PARAMETERS.sub("", event.hook) + part, event.point), []).append(event)
    by_start = sorted(groups.items(), key=lambda group: min((each.start_s, each.end_s) for each in group[1]))
    return {what: _side(group, begin_s) for what, group in by_start}


def _side(group: Sequence[HookEvent | StartStep], begin_s: float) -> Side:
    group = sorted(group, key=lambda each: each.start_s)
    took_s = max(each.duration_s for each in group)
    places = {each.process or each.node_id[:8] for each in group}
    longest = {each.process or each.node_id[:8] for each in group if each.duration_s == took_s}
    return Side(
        calls=sum(not isinstance(each, HookEvent) or each.ran for each in group),
        start_s=group[0].start_s - begin_s,
        took_s=took_s,
        longest=longest.pop() if len(longest) == 1 < len(places) else "",
        outcomes=tuple(dict.fromkeys(_outcome(each) for each in group)),
    )


def _outcome(each: HookEvent | StartStep) -> str:
    return each.outcome if isinstance(each, HookEvent) else "failed" if each.failed else "ok"


def write_compared(screen: Screen, rows: Sequence[Row]) -> None:
    """Write what each took in A and in B: side by side, or below each other where the screen is narrow."""
    if not rows:
        screen.line("no hook ran in either", indent=2)
    elif screen.width is not None and screen.width < STACKED_BELOW:
        _write_stacked(screen, rows)
    else:
        _write_in_columns(screen, rows)


def _write_stacked(screen: Screen, rows: Sequence[Row]) -> None:
    for row in rows:
        screen.line((row.what.title, "bold"), _mark(row), indent=2)
        for name, side in (("A", row.a), ("B", row.b)):
            at, took = _times(side)
            screen.line(f"{name}  at {at}, took {took}{_more(row, side)}" if side else f"{name}  {took}", indent=4)
        if row.difference_s is not None:
            screen.line(f"B - A  {_signed(row.difference_s)}", indent=4)


def _write_in_columns(screen: Screen, rows: Sequence[Row]) -> None:
    cells = [("A at", "took", "B at", "took", "B - A")]
    for row in rows:
        difference = "" if row.difference_s is None else _signed(row.difference_s)
        cells.append((*_times(row.a), *_times(row.b), difference))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    head, *lines = ["  ".join(map(str.rjust, each, widths)) for each in cells]
    screen.line((f"{head}  what", "bold"), indent=2)
    for line, row in zip(lines, rows, strict=True):
        screen.line((f"{line}  {row.what.title}", "bold" if row.what == WHOLE else ""), _mark(row), indent=2)
        for text in _said(row):
            screen.line(text, indent=len(head) + 4)


def _mark(row: Row) -> tuple[str, str]:
    return (", differs most", "bold yellow") if row.differs_most else ("", "")


def _said(row: Row) -> list[str]:
    """Return what there is to say of the sides besides their times; once, where it is the same."""
    a, b = _more(row, row.a), _more(row, row.b)
    return [f"A and B{a}"] if a and a == b else [f"{name}{more}" for name, more in (("A", a), ("B", b)) if more]


def _times(side: Side | None) -> tuple[str, str]:
    return ("", "not there") if side is None else (seconds(side.start_s), seconds(side.took_s))


def _more(row: Row, side: Side | None) -> str:
    """Return what there is to say besides the time: of how many the longest, and where that was, and the outcome."""
    if side is None:
        return ""
    longest = f", the longest of {side.calls}{'' if row.what.step else ' calls'}" if side.calls > 1 else ""
    where = f" ({side.longest})" if longest and side.longest else ""
    return longest + where + "".join(f", {outcome}" for outcome in side.outcomes if outcome != "ok")


def _signed(difference_s: float) -> str:
    return f"{'+' if difference_s >= 0 else '-'}{seconds(abs(difference_s))}"
