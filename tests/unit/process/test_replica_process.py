"""The steps of a replica's process before its start."""

from __future__ import annotations

import os
import time

import pytest

from serve_llm_hooks import StartStep, Trace
from serve_llm_hooks.ray import prewarm, replica_process
from serve_llm_hooks.ray.replica_process import add_steps, imports_begin


@pytest.fixture(autouse=True)
def begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica's process that began four seconds ago, and has imported nothing."""
    now_s = time.time()
    monkeypatch.setattr(prewarm, "replica_name", lambda: "SERVE_REPLICA::llm#LLMServer:m#1")
    monkeypatch.setattr(replica_process, "_imports_begin_s", None)
    monkeypatch.setattr(replica_process, "process_start_s", lambda: now_s - 4)


def trace_of_a_start() -> Trace:
    """Return the trace of a start that begins, two seconds from now."""
    trace = Trace(node_id="n0", address="10.0.0.7", hostname="gpu-3")
    begun_s = time.time() + 2
    trace.steps = (StartStep("imports", "n0", os.getpid(), begun_s, begun_s + 1),)
    return trace


def told(trace: Trace) -> list[tuple[str, int]]:
    return [(step.name, round(step.duration_s)) for step in trace.steps]


def test_the_process_and_what_serve_imports_there() -> None:
    imports_begin()
    trace = trace_of_a_start()
    add_steps(trace)
    assert told(trace) == [("process", 4), ("serve", 2), ("imports", 1)]
    process, serve, imports = trace.steps
    assert (process.end_s, serve.end_s) == (serve.start_s, imports.start_s)
    assert process[1:3] == ("n0", os.getpid())
    assert process[7:9] == ("10.0.0.7", "gpu-3")


def test_without_a_mark_all_of_it_is_the_process() -> None:
    trace = trace_of_a_start()
    add_steps(trace)
    assert told(trace) == [("process", 6), ("imports", 1)]


def test_a_process_that_waited_for_work_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    long_ago_s = time.time() - 600
    monkeypatch.setattr(replica_process, "process_start_s", lambda: long_ago_s)
    imports_begin()
    trace = trace_of_a_start()
    add_steps(trace)
    assert told(trace) == [("serve", 2), ("imports", 1)]


def test_where_there_is_no_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> float:
        raise FileNotFoundError

    monkeypatch.setattr(replica_process, "process_start_s", missing)
    imports_begin()
    trace = trace_of_a_start()
    add_steps(trace)
    assert told(trace) == [("serve", 2), ("imports", 1)]


def test_what_is_no_replica_of_serve_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prewarm, "replica_name", lambda: "")
    trace = trace_of_a_start()
    add_steps(trace)
    assert told(trace) == [("imports", 1)]
