"""Traces as JSON: ``dump_traces`` and ``load_traces``, which tells what was cut off or is of a later version."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import TraceFormatError
from .event import HookEvent, StartStep
from .messages import describe, without_value
from .picture import BEGIN_DATA, END_DATA
from .trace import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

RowT = TypeVar("RowT", HookEvent, StartStep)

FORMAT = "serve-llm-hooks traces"
IN_CHROME = "serveLlmHooks"
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
    steps = {name: [step._asdict() for step in trace.steps] for name, trace in traces.items()}
    return json.dumps({"format": FORMAT, "version": VERSION, "traces": events, "steps": steps}, indent=2)


def load_traces(text: str) -> dict[str, Trace]:
    """Return the traces of a document that :func:`dump_traces` wrote, by their names.

    The files in ``SERVE_LLM_HOOKS_TRACE_DIR`` are such documents too, the pages included.

    Raises:
        TraceFormatError: it was cut off, is of a later version, or something else.
    """
    import json

    text = _in_page(text)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TraceFormatError(_no_json(text, error)) from None
    if isinstance(document, dict) and "traceEvents" in document:  # Chrome's format, with ours in it
        document = document.get(IN_CHROME)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise TraceFormatError("these are no traces of serve-llm-hooks: dump_traces() writes them")
    version = document.get("version")
    if type(version) is not int or version < 1:
        raise TraceFormatError(f"its version must be a whole number, not {describe(version)}")
    if version > VERSION:
        raise TraceFormatError(
            f"it is of version {version}, and this serve-llm-hooks reads up to {VERSION}: take the one that wrote it, "
            "or a later one"
        )
    traces = document.get("traces")
    if not isinstance(traces, dict):
        raise TraceFormatError("it has no traces, which are a mapping from names to events")
    steps = document.get("steps", {})  # an earlier version saved none
    if not isinstance(steps, dict):
        raise TraceFormatError(f"its steps are a mapping from names to lists, and not {without_value(steps)}")
    return {name: _trace(name, events, steps.get(name, [])) for name, events in traces.items()}


def _in_page(text: str) -> str:
    """Return the document in a page that shows it, or the text as it is."""
    if not text.lstrip().startswith("<"):
        return text
    _, begun, rest = text.partition(BEGIN_DATA)
    document, ended, _ = rest.partition(END_DATA)
    if not begun and "</html>" in text:
        raise TraceFormatError("this page is none of serve-llm-hooks")
    if not ended:
        raise TraceFormatError("the page was cut off: its end is missing. Was the disk full?")
    return document


def _no_json(text: str, error: Exception) -> str:
    """Return what is wrong with a text that is no JSON: a document that was cut off ends before its last bracket."""
    if not text.strip():
        return "it is empty"
    if text.lstrip().startswith("{") and not text.rstrip().endswith("}"):
        return "it was cut off: its end is missing. Was the disk full, or is it still being written?"
    at = getattr(error, "lineno", None)
    return f"it is no JSON{f' (line {at})' if at else ''}, or was cut off"


def _trace(name: str, events: object, steps: object) -> Trace:
    trace = Trace()
    trace.extend(_rows(HookEvent, f"trace {name!r}", "event", events))
    trace.steps = tuple(_rows(StartStep, f"trace {name!r}", "step", steps))
    return trace


def _rows(kind: type[RowT], where: str, noun: str, given: object) -> list[RowT]:
    if not isinstance(given, list):
        raise TraceFormatError(f"{where}: its {noun}s are a list, and not {without_value(given)}")
    return [_row(kind, f"{where}, {noun} {number}", noun, each) for number, each in enumerate(given, 1)]


def _row(kind: type[RowT], where: str, noun: str, given: object) -> RowT:
    if not isinstance(given, dict):
        raise TraceFormatError(
            f"{where}: {'an' if noun == 'event' else 'a'} {noun} is a mapping, and not {without_value(given)}"
        )
    missing = [name for name in kind._fields if name not in given and name not in kind._field_defaults]
    if missing:
        raise TraceFormatError(f"{where} has no {missing[0]}")
    values: dict[str, Any] = {name: given[name] for name in kind._fields if name in given}
    for name, value in values.items():
        if not _CHECKS.get(name, _is_anything)(value):
            raise TraceFormatError(f"{where}: {name} is {describe(value)}, which it cannot be")
    return kind(**values)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15 and math.isfinite(value)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_process(value: object) -> bool:
    return type(value) is int


def _is_size(value: object) -> bool:
    return value is None or (type(value) is int and 0 <= value < 1e18)


def _is_yes_or_no(value: object) -> bool:
    return isinstance(value, bool)


def _is_anything(value: object) -> bool:
    return True


_CHECKS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys(("point", "hook", "node_id", "outcome", "detail", "address", "hostname", "process"), _is_text),
    "name": _is_text,
    **dict.fromkeys(("start_s", "end_s"), _is_seconds),
    "process_id": _is_process,
    **dict.fromkeys(("is_finish", "failed"), _is_yes_or_no),
    "size_bytes": _is_size,
}
