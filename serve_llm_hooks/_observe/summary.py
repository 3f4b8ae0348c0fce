"""``summary``: what a start did, as one block of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.bars import name_of, place_of, seconds, size
from .._core.event import HookEvent, StartStep
from .._core.messages import counted
from .advice import advise

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._core.trace import Trace

WIDTH = 100
_ROWS = 30
_SHORT_S = 0.05  # a shorter step is not worth a line
_ADVICE = 2  # the block says no more than this; `serve-llm-hooks trace --advice` has the rest
_WHOLE = ("start", "node")  # the steps that others are parts of


def summary(model_id: str, trace: Trace) -> str:
    """Return the block; empty for a start without hooks and downloads, of which there is nothing to say."""
    events = [event for event in trace if event.ran]
    downloads = [step for step in trace.steps if step.name == "download"]
    shown = [step for step in trace.steps if step.name not in _WHOLE and (step.duration_s >= _SHORT_S or step.failed)]
    if not events and not any(step.name == "download" for step in shown):
        return ""
    every: list[HookEvent | StartStep] = [*events, *trace.steps]
    begin_s = min(each.start_s for each in every)
    told: list[HookEvent | StartStep] = [*events, *shown]
    groups: dict[tuple[str, str], list[HookEvent | StartStep]] = {}
    for each in sorted(told, key=lambda each: each.start_s):
        what = f"{each.label} {each.point}" if isinstance(each, HookEvent) else each.name
        key = (what, "" if _is_on_node(each) else place_of(each))
        groups.setdefault(key, []).append(each)
    rows = list(groups.values())
    longest = sorted(rows, key=lambda row: -max(each.duration_s for each in row))[:_ROWS]
    lines = [_line(row, begin_s) for row in rows if any(row is each for each in longest)]
    if len(rows) > _ROWS:
        lines.append(f"and {len(rows) - _ROWS} that took less")
    lines += [_printable(each.head) for each in advise(trace)[:_ADVICE]]  # not shortened: they are copied from here
    return "\n  ".join([_head(model_id, trace, events, downloads), *lines])


def _head(model_id: str, trace: Trace, events: Sequence[HookEvent], downloads: Sequence[StartStep]) -> str:
    whole = next((step for step in trace.steps if step.name == "start"), None)
    took = "" if whole is None else f" after {seconds(whole.duration_s)}"
    how = "the start ended with an error" if whole is not None and whole.failed else "started"
    engine = [step for step in trace.steps if step.name == "engine"]
    parts: dict[str, Sequence[HookEvent | StartStep]] = {"hooks": events, "downloads": downloads, "engine": engine}
    told = ", ".join(f"{what} {seconds(_together(each))}" for what, each in parts.items() if each)
    return f"model {model_id!r}: {how}{took} ({told})"


def _line(row: Sequence[HookEvent | StartStep], begin_s: float) -> str:
    slowest = max(row, key=lambda each: each.duration_s)
    what, where = name_of(slowest), _short_place(slowest)
    brought = [each.size_bytes for each in row if isinstance(each, StartStep) and each.size_bytes is not None]
    if brought:
        took_s = _together(row)
        what += f", {size(sum(brought))}" + (f" at {size(sum(brought) / took_s)}/s" if took_s > 0 else "")
    if len(row) > 1:
        what += f"; slowest of {len(row)}: {where}"
        where = counted(len({each.node_id for each in row}), "node")
    if any(isinstance(each, StartStep) and each.failed for each in row):
        what += "; failed"
    at_s = min(each.start_s for each in row) - begin_s
    lines = [f"{seconds(at_s):>9}  {seconds(slowest.duration_s):>9}  {where[:14]:<14}  {what}"]
    bad = next((each for each in row if isinstance(each, HookEvent) and each.outcome != "ok"), None)
    if bad is not None:
        lines.append(f"{'':24}{bad.outcome}: {bad.detail}" if bad.detail else f"{'':24}{bad.outcome}")
    return "\n  ".join(map(_shortened, lines))


def _short_place(each: HookEvent | StartStep) -> str:
    return place_of(each).partition(" (")[0]


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else " " for char in line)


def _shortened(line: str) -> str:
    line = _printable(line)
    return line if len(line) <= WIDTH - 2 else f"{line[: WIDTH - 3]}…"


def _is_on_node(each: HookEvent | StartStep) -> bool:
    return not each.process and place_of(each) != "replica"


def _together(rows: Iterable[HookEvent | StartStep]) -> float:
    """Return the seconds in which at least one of them was going on."""
    total_s, until_s = 0.0, float("-inf")
    for each in sorted(rows, key=lambda each: each.start_s):
        total_s += max(0.0, each.end_s - max(until_s, each.start_s))
        until_s = max(until_s, each.end_s)
    return total_s
