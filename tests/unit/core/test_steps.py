"""The steps of a start that are no hooks: in the trace, and saved."""

from __future__ import annotations

import asyncio
import json
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import DownloadMode, StartStep, Trace, TraceFormatError, dump_traces, load_traces
from serve_llm_hooks._node.work import run_task
from serve_llm_hooks.ray import download
from serve_llm_hooks.ray.download import new_bytes
from tests.unit.stub import MIRROR, StubCluster, node_task, start

TIMES = st.floats(min_value=-1e9, max_value=2e9)
STEPS = st.builds(
    StartStep,
    name=st.text(),
    node_id=st.text(),
    process_id=st.integers(min_value=0, max_value=2**31),
    start_s=TIMES,
    end_s=TIMES,
    failed=st.booleans(),
    size_bytes=st.none() | st.integers(min_value=0, max_value=2**50),
    process=st.text(),
)
STEP = StartStep("download", "node-1", 7, 2.0, 12.0, size_bytes=5_000)


def trace_with(*steps: StartStep) -> Trace:
    trace = Trace()
    trace.steps = steps
    return trace


def test_a_step_is_recorded_when_it_is_over() -> None:
    times = iter([1.0, 4.0])
    trace = Trace(node_id="n0", address="10.0.0.7", hostname="gpu-3", clock=lambda: next(times), epoch_s=1000.0)
    with trace.step("download") as step:
        step.size_bytes = 9
        assert not trace.steps
    pid = os.getpid()
    assert trace.steps == (StartStep("download", "n0", pid, 1001.0, 1004.0, False, 9, "10.0.0.7", "gpu-3"),)
    assert (trace.steps[0].duration_s, trace.steps[0].bytes_per_s) == (3.0, 3.0)
    assert list(trace) == []


def test_a_step_that_an_error_ends() -> None:
    trace = Trace()
    with pytest.raises(KeyboardInterrupt), trace.step("engine"):
        raise KeyboardInterrupt
    assert [(step.name, step.failed, step.size_bytes, step.bytes_per_s) for step in trace.steps] == [
        ("engine", True, None, None)
    ]


def test_steps_travel_with_their_trace() -> None:
    assert pickle.loads(pickle.dumps(trace_with(STEP))).steps == (STEP,)


def test_the_steps_of_a_start() -> None:
    started = start()
    steps = started.ctx.trace.steps
    assert [step.name for step in steps if step.node_id == "n0" and step.name != "placement group"] == [
        *["imports", "nodes", "download", "node", "engine", "start"],
    ]
    assert sorted(step.node_id for step in steps if step.name == "download") == ["n0", "n1", "n2"]
    by_name = {step.name: step for step in steps}
    assert by_name["start"].start_s == by_name["imports"].start_s
    assert by_name["start"].end_s >= by_name["engine"].end_s
    assert not any(step.failed for step in steps)


def test_the_steps_of_a_start_whose_download_fails() -> None:
    async def fail(task: object, mode: object) -> str:
        raise OSError("no space")

    traces: list[Trace] = []

    def keep(ctx: Any) -> None:
        traces.append(ctx.trace)

    from serve_llm_hooks import hook

    with pytest.raises(ExceptionGroup):
        start(hook("on_before_init")(keep), cluster=StubCluster(nodes=("n0",), download=fail))
    failed = [step.name for step in traces[0].steps if step.failed]
    assert failed == ["download", "node", "start"]


def test_the_bytes_of_a_download_are_those_of_the_files_that_are_new(tmp_path: Path) -> None:
    old, new, link, extra = (tmp_path / name for name in ("model/old", "model/sub/new", "model/link", "extra"))
    new.parent.mkdir(parents=True)
    old.write_bytes(b"1234567")
    since_s = old.stat().st_ctime + 1
    new.write_bytes(b"12345")
    extra.write_bytes(b"12")
    link.symlink_to(new)
    task = node_task([], mirror={**MIRROR, "extra_files": [{"destination_path": str(extra)}]})
    soon_s = since_s - 1  # all files are of this second
    assert new_bytes(task, str(old.parent), soon_s) == 7 + 5 + 2
    assert new_bytes(task, str(tmp_path / "nothing"), soon_s) == 2
    assert new_bytes(task, None, since_s + 1e6) is None
    assert task.download_model is DownloadMode.NONE


def test_the_bytes_of_extra_files_are_found_where_ray_puts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EXTRA", "of-today")
    (tmp_path / "of-today").mkdir()
    (tmp_path / "of-today" / "file").write_bytes(b"123")
    task = node_task([], mirror={**MIRROR, "extra_files": [{"destination_path": "~/$EXTRA"}]})
    assert new_bytes(task, None, 0.0) == 3


def test_a_folder_with_too_many_files_is_not_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_MOST_FILES", 3)
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"12345")
    assert new_bytes(node_task([]), str(tmp_path), 0.0) == 10
    (tmp_path / "c").mkdir()
    assert new_bytes(node_task([]), str(tmp_path), 0.0) is None


def test_a_node_goes_on_while_its_download_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    has_gone_on = threading.Event()

    def look(*_: object) -> int | None:
        loops[0].call_soon_threadsafe(has_gone_on.set)
        return 7 if has_gone_on.wait(5) else None

    async def bring(task: object, mode: object) -> str:
        return "/downloaded/m"

    async def work() -> Any:
        loops.append(asyncio.get_running_loop())
        task = node_task([], mirror=MIRROR, download_model=DownloadMode.MODEL_AND_TOKENIZER)
        return await run_task(task, bring, measure=download.measure)

    loops: list[asyncio.AbstractEventLoop] = []
    monkeypatch.setattr(download, "new_bytes", look)
    [size] = [step.size_bytes for step in asyncio.run(work()).steps if step.name == "download"]
    assert size == 7


@given(st.lists(STEPS, max_size=5))
def test_what_was_saved_comes_back(steps: list[StartStep]) -> None:
    assert load_traces(dump_traces({"m": trace_with(*steps)}))["m"].steps == tuple(steps)


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([], "its steps are a mapping"),
        ({"m": 1}, "trace 'm': its steps are a list"),
        ({"m": [1]}, "trace 'm', step 1: a step is a mapping"),
        ({"m": [{"name": "engine"}]}, "trace 'm', step 1 has no node_id"),
        ({"m": [{**STEP._asdict(), "size_bytes": -1}]}, "trace 'm', step 1: size_bytes is "),
        ({"m": [{**STEP._asdict(), "failed": 0}]}, "trace 'm', step 1: failed is "),
    ],
)
def test_steps_that_cannot_be_read(steps: object, why: str) -> None:
    document = json.loads(dump_traces({"m": trace_with(STEP)}))
    with pytest.raises(TraceFormatError, match=why):
        load_traces(json.dumps({**document, "steps": steps}))


def test_every_saved_trace_of_the_corpus_can_be_read() -> None:
    files = sorted((Path(__file__).parents[1] / "corpus").glob("*.json"))
    assert files
    for file in files:
        [trace] = load_traces(file.read_text()).values()
        assert [event.name for event in trace] == ["check_disk", "check_disk", "warm_up"]
        assert [event.outcome for event in trace] == ["ok", "warned", "ok"]
