from __future__ import annotations

import os
import pickle
import time

from serve_llm_hooks import Hook, HookEvent, Trace
from serve_llm_hooks._core.options import HookOptions


def one(ctx: object, **kwargs: object) -> None:
    """A hook."""


PLACE = {"address": "10.0.0.7", "hostname": "gpu-3"}
HOOK = Hook(one, HookOptions("on_before_init"))


def written_trace() -> Trace:
    """Two calls, of which the second failed, at 1 s and 2.5 s of a clock that began at 1000 s."""
    trace = Trace(node_id="n0", **PLACE, clock=lambda: 0.0, epoch_s=1000.0)
    batch = trace.batch([HOOK, HOOK])
    batch.times.extend([1.0, 2.5, 4.0])
    batch.outcomes[1] = ("failed", "ValueError: no disk")
    return trace


def test_an_event_for_each_call() -> None:
    ref = f"{__name__}:one"
    assert written_trace().events == (
        HookEvent("on_before_init", ref, "n0", os.getpid(), 1001.0, 1002.5, "ok", "", "10.0.0.7", "gpu-3"),
        HookEvent(
            "on_before_init",
            ref,
            "n0",
            os.getpid(),
            1002.5,
            1004.0,
            "failed",
            "ValueError: no disk",
            "10.0.0.7",
            "gpu-3",
        ),
    )
    assert [event.duration_s for event in written_trace()] == [1.5, 1.5]


def test_a_call_that_has_not_ended_is_no_event_yet() -> None:
    trace = Trace()
    batch = trace.batch([HOOK])
    batch.times.append(1.0)
    assert len(trace) == 0
    batch.times.append(2.0)
    assert len(trace) == 1


def test_the_name_of_an_event() -> None:
    def name(ref: str) -> str:
        return HookEvent("on_before_init", ref, "n0", 1, 0.0, 0.0).name

    assert name("pkg.mod:fetch") == "fetch"
    assert name("pkg.mod:Store.fetch") == "fetch"
    assert name("pkg.mod:test.<locals>.fetch") == "fetch"
    assert name("pkg.mod:fetch(bucket=…, path=…)") == "fetch"
    assert name("pkg.mod:fetch(bucket=…)#2") == "fetch"
    assert name("hooks (1):second") == "second"
    assert name("/srv/hooks #1 (old).py:Store.fetch(bucket=…)#2") == "fetch"


def test_events_of_other_processes_come_after_what_is_there() -> None:
    trace = written_trace()
    there = HookEvent("on_before_node_download", "mod:there", "n1", 7, 0.0, 1.0)
    trace.extend([there])
    assert trace.events[2] == there
    assert len(trace) == 3


def test_a_trace_travels() -> None:
    trace = written_trace()
    again = pickle.loads(pickle.dumps(trace))
    assert again.events == trace.events
    assert again.node_id == "n0"
    assert again.process_id == os.getpid()


def test_the_clock_is_anchored_to_the_epoch() -> None:
    trace = Trace()
    before_s = time.time()
    trace.batch([HOOK]).times.extend([trace.clock(), trace.clock()])
    assert abs(trace.events[0].start_s - before_s) < 60


def test_as_a_table() -> None:
    pid = os.getpid()
    header, first, second = str(written_trace()).splitlines()
    assert header.split() == ["start", "took", "point", "hook", "node", "pid", "outcome"]
    assert first.split() == f"0.000 s 1.500 s on_before_init {__name__}:one n0 (10.0.0.7, gpu-3) {pid} ok".split()
    call = f"1.500 s 1.500 s on_before_init {__name__}:one n0 (10.0.0.7, gpu-3) {pid}"
    assert second.split() == f"{call} failed: ValueError: no disk".split()
    assert str(Trace()) == "(no hook ran)"
    assert repr(written_trace()) == "<Trace of 2 hook calls>"


def test_which_hook_runs_right_now() -> None:
    trace = Trace()
    seen = [trace.running]
    batch = trace.batch([HOOK])
    for reading in (1.0, 2.0):
        seen.append(trace.running)
        batch.times.append(reading)
    seen.append(trace.running)
    assert seen == [None, None, HOOK.ref, None]
    trace.extend(trace.events)  # from another process
    assert trace.running is None
