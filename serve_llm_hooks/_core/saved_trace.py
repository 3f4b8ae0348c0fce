"""Traces as JSON: ``dump_traces`` and ``load_traces``, which tells what was cut off or is of a later version."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from .errors import TraceFormatError
from .messages import describe
from .trace import HookEvent, Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FORMAT = "serve-llm-hooks traces"
VERSION = 1
"""Raised when a reader of today would misread a document; keys that are added do not count."""


def dump_traces(traces: Mapping[str, Trace]) -> str:
    """Return traces as a JSON document, which :func:`load_traces` and ``serve-llm-hooks trace`` read.

    Args:
        traces: each start's trace, by a name for it.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster().run(FakeLLMConfig("m", hooks=[]))
        >>> load_traces(dump_traces({"m": run.trace}))
        {'m': <Trace of 0 hook calls>}
    """
    import json

    events = {name: [event._asdict() for event in trace] for name, trace in traces.items()}
    return json.dumps({"format": FORMAT, "version": VERSION, "traces": events}, indent=2)


def load_traces(text: str) -> dict[str, Trace]:
    """Return the traces of a document that :func:`dump_traces` wrote, by their names.

    Raises:
        TraceFormatError: it was cut off, is of a later version, or something else.
    """
    import json

    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TraceFormatError(_no_json(text, error)) from None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TraceFormatError("these are no traces of serve-llm-hooks: dump_traces() writes them")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise TraceFormatError(f"its version is a whole number, and not {describe(version)}")
    if version > VERSION:
        raise TraceFormatError(
            f"it is of version {version}, and this serve-llm-hooks reads up to {VERSION}: take the one that wrote it, "
            "or a later one"
        )
    traces = document.get("traces")
    if not isinstance(traces, dict):
        raise TraceFormatError("it has no traces, which are a mapping from names to events")
    return {name: _trace(name, events) for name, events in traces.items()}


def _no_json(text: str, error: Exception) -> str:
    """Return what is wrong with a text that is no JSON: a document that was cut off ends before its last bracket."""
    if not text.strip():
        return "it is empty"
    if text.lstrip().startswith("{") and not text.rstrip().endswith("}"):
        return "it was cut off: its end is missing. Was the disk full, or is it still being written?"
    at = getattr(error, "lineno", None)
    return f"it is no JSON{f' (line {at})' if at else ''}, or was cut off"


def _trace(name: str, events: object) -> Trace:
    if not isinstance(events, list):
        raise TraceFormatError(f"trace {name!r}: its events are a list, and not {describe(events)}")
    trace = Trace()
    trace.extend([_event(f"trace {name!r}, event {number}", event) for number, event in enumerate(events, 1)])
    return trace


def _event(where: str, given: object) -> HookEvent:
    if not isinstance(given, dict):
        raise TraceFormatError(f"{where}: an event is a mapping, and not {describe(given)}")
    missing = [name for name in HookEvent._fields if name not in given and name not in HookEvent._field_defaults]
    if missing:
        raise TraceFormatError(f"{where} has no {missing[0]}")
    values: dict[str, Any] = {name: given[name] for name in HookEvent._fields if name in given}
    for name, value in values.items():
        if not _CHECKS.get(name, _is_anything)(value):
            raise TraceFormatError(f"{where}: {name} is {describe(value)}, which it cannot be")
    return HookEvent(**values)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 and math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_process(value: object) -> bool:
    return type(value) is int


def _is_yes_or_no(value: object) -> bool:
    return isinstance(value, bool)


def _is_anything(value: object) -> bool:
    return True


_CHECKS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("point", "hook", "node_id", "outcome", "detail", "address", "hostname", "process"), _is_text),
    **dict.fromkeys(("start_s", "end_s"), _is_seconds),
    "process_id": _is_process,
    "is_finish": _is_yes_or_no,
}
