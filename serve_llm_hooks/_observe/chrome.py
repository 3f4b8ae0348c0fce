"""``chrome_trace``: a start in Chrome's trace format, which Perfetto and ``chrome://tracing`` show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.bars import Bar

_US = 1e6


def chrome_trace(bars: Sequence[Bar], begin_s: float) -> list[dict[str, Any]]:
    """Return the events: each bar a complete one, each place a process.

    Args:
        bars: what is shown.
        begin_s: when the first began: seconds since the epoch, as in ``ray timeline``.
    """
    places = {place: number for number, place in enumerate(dict.fromkeys(bar.place for bar in bars), 1)}
    found: list[dict[str, Any]] = []
    for place, number in places.items():
        named: dict[str, Any] = {"ph": "M", "pid": number, "tid": 0, "ts": 0}
        found.append({**named, "name": "process_name", "args": {"name": place}})
        found.append({**named, "name": "process_sort_index", "args": {"sort_index": number}})
        lanes: list[list[float]] = []  # in each, the ends of the bars around the next one
        for bar in (bar for bar in bars if bar.place == place):
            found.append(
                {
                    "ph": "X",
                    "name": bar.what,
                    "cat": "step" if bar.outcome == "step" else "hook",
                    "ts": round((begin_s + bar.start_s) * _US, 3),
                    "dur": round(bar.took_s * _US, 3),
                    "pid": number,
                    "tid": _lane(lanes, bar),
                    "args": {"details": "\n".join(bar.details), "process": bar.process_id, "outcome": bar.outcome},
                }
            )
    return found


def _lane(lanes: list[list[float]], bar: Bar) -> int:
    """Return a lane in which a bar is inside others, or beside them: Chrome draws no other overlaps."""
    end_s = bar.start_s + bar.took_s
    for number, around in enumerate(lanes):
        while around and around[-1] <= bar.start_s:
            around.pop()
        if not around or end_s <= around[-1]:
            around.append(end_s)
            return number
    lanes.append([end_s])
    return len(lanes) - 1
