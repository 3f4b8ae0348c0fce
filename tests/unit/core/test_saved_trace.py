"""Traces as JSON, and back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import HOOK_POINTS, HookEvent, Trace, TraceFormatError, dump_traces, load_traces

TIMES = st.floats(min_value=-1e9, max_value=2e9)
EVENTS = st.builds(
    HookEvent,
    point=st.sampled_from(list(HOOK_POINTS)),
    hook=st.text(),
    node_id=st.text(),
    process_id=st.integers(min_value=0, max_value=2**31),
    start_s=TIMES,
    end_s=TIMES,
    outcome=st.sampled_from(["ok", "failed", "skipped"]),
    detail=st.text(),
    address=st.text(),
    hostname=st.text(),
)


def trace_of(*events: HookEvent) -> Trace:
    trace = Trace()
    trace.extend(events)
    return trace


EVENT = HookEvent("on_before_init", "m:f", "node-0", 7, 1.0, 2.0)
SAVED = dump_traces({"llama": trace_of(EVENT)})


@given(st.dictionaries(st.text(), st.lists(EVENTS, max_size=5), max_size=3))
def test_what_was_saved_comes_back(starts: dict[str, list[HookEvent]]) -> None:
    found = load_traces(dump_traces({name: trace_of(*events) for name, events in starts.items()}))
    assert {name: list(trace) for name, trace in found.items()} == starts


@given(st.text(st.characters()))  # all characters: also the surrogates in a file's name that is no UTF-8
def test_a_document_can_be_written_to_any_file(detail: str) -> None:
    event = EVENT._replace(detail=detail)
    written = dump_traces({"llama": trace_of(event)}).encode("ascii")
    assert load_traces(written.decode())["llama"].events == (event,)


@given(st.data())
def test_a_document_that_was_cut_off_is_told_wherever(data: st.DataObject) -> None:
    length = data.draw(st.integers(min_value=0, max_value=len(SAVED) - 1))
    with pytest.raises(TraceFormatError, match=r"cut off|it is empty"):
        load_traces(SAVED[:length])


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_anything_else_is_told(text: str) -> None:
    with pytest.raises(TraceFormatError):
        load_traces(text)


def changed(**changes: Any) -> str:
    return json.dumps({**json.loads(SAVED), **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"version": 2}, "it is of version 2, and this serve-llm-hooks reads up to 1"),
        ({"version": 0}, "its version must be a whole number"),
        ({"version": True}, "its version must be a whole number"),
        ({"version": "1"}, "its version must be a whole number"),
        ({"format": "chrome"}, "these are no traces of serve-llm-hooks"),
        ({"traces": []}, "it has no traces"),
        ({"traces": {"a": 1}}, "trace 'a': its events are a list"),
        ({"traces": {"a": [1]}}, "trace 'a', event 1: an event is a mapping"),
        ({"traces": {"a": [{"point": "on_before_init"}]}}, "trace 'a', event 1 has no hook"),
    ],
)
def test_documents_that_cannot_be_read(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(TraceFormatError, match=why):
        load_traces(changed(**changes))


@pytest.mark.parametrize(
    ("name", "value"),
    [("start_s", "1"), ("end_s", None), ("end_s", True), ("start_s", 1e300), ("process_id", 1.5), ("hook", 3)],
)
def test_a_value_that_cannot_be(name: str, value: object) -> None:
    with pytest.raises(TraceFormatError, match=f"trace 'a', event 1: {name} is "):
        load_traces(changed(traces={"a": [{**EVENT._asdict(), name: value}]}))


def test_no_number_is_too_large_for_the_axis() -> None:
    for number in ("Infinity", "NaN", "1e999"):
        with pytest.raises(TraceFormatError):
            load_traces(SAVED.replace('"start_s": 1.0', f'"start_s": {number}'))


def test_keys_of_later_versions_and_points_that_are_not_known_here() -> None:
    event = {**EVENT._asdict(), "point": "on_a_later_point", "bytes": 7}
    del event["address"]
    [found] = load_traces(changed(traces={"a": [event]}, more="more"))["a"]
    assert found == ("on_a_later_point", *EVENT[1:])
