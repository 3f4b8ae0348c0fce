"""Test the spans of a start, as an exporter in memory gets them, and that nothing is done where nobody wants them."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import HookError, HookEvent, StartStep, hook, initialization
from serve_llm_hooks._observe.parts import Part, parts_of
from serve_llm_hooks._observe.spans import Spans
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
from tests.conftest import require
from tests.unit.core.test_saved_trace import EVENTS
from tests.unit.core.test_steps import STEPS
from tests.unit.stub import Config, StubCluster, run, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@hook("on_before_node_download")
def check_disk(ctx: Any) -> None:
    """A hook on every node."""


@hook("on_before_init")
def loads(ctx: Any) -> Iterator[None]:
    """A hook in two parts."""
    yield


@hook("on_before_engine_init")
def breaks(ctx: Any) -> None:
    raise ValueError("no licence")


@hook("on_before_engine_init", on_error="warn")
def complains(ctx: Any) -> None:
    raise ValueError("no colours")


@hook("on_shutdown")
def say_goodbye(ctx: Any) -> None:
    """A hook at the end."""


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Set up a provider of spans in this process; return the exporter that keeps them."""
    require("opentelemetry.sdk.trace", "OpenTelemetry's SDK")
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(BatchSpanProcessor(exporter))  # it sends them later, as in production
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)  # a process can set it only once
    return exporter


def join() -> None:
    for thread in threading.enumerate():
        if thread.name == "serve-llm-hooks writes spans":
            thread.join()


def spans_of(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    from opentelemetry import trace

    join()
    provider: Any = trace.get_tracer_provider()
    provider.force_flush()
    return list(exporter.get_finished_spans())


def tree(spans: list[ReadableSpan]) -> list[str]:
    """Return the ways from the outermost span to each, as far as they are ours."""
    by_id = {span.context.span_id: span for span in spans}

    def way(span: ReadableSpan) -> str:
        around = None if span.parent is None else by_id.get(span.parent.span_id)
        return span.name if around is None else f"{way(around)} > {span.name}"

    return sorted(way(span) for span in spans)


def test_a_start_is_one_span_and_all_of_it_is_inside(exporter: InMemorySpanExporter) -> None:
    started = start(loads, check_disk, cluster=StubCluster(nodes=("n0", "n1")))
    spans = spans_of(exporter)
    node = ["node", "node > download", "node > on_before_node_download", "node > on_before_node_download > check_disk"]
    inside = ["engine", "imports", "nodes", *(f"nodes > {each}" for each in node * 2)]
    inside += ["loads (finish)", "on_before_init", "on_before_init > loads"]
    inside += [step.name for step in started.ctx.trace.steps if step.name == "placement group"]
    assert tree(spans) == sorted(["start", *(f"start > {each}" for each in inside)])
    assert len({span.context.trace_id for span in spans}) == 1
    [whole] = [span for span in spans if span.name == "start"]
    assert whole.parent is None
    [step] = [step for step in started.ctx.trace.steps if step.name == "start"]
    assert (whole.start_time, whole.end_time) == (int(step.start_s * 1e9), int(step.end_s * 1e9))


def test_spans_say_where_they_were_and_what(exporter: InMemorySpanExporter) -> None:
    started = start(check_disk, cluster=StubCluster(nodes=("n0", "n1")))
    spans = spans_of(exporter)
    assert {span.attributes["ray.node_id"] for span in spans if span.name == "check_disk"} == {"n0", "n1"}
    for span in spans:
        assert span.attributes["serve_llm_hooks.model"] == "m"
        assert span.attributes["serve_llm_hooks.application"] == "app"
        assert span.attributes["serve_llm_hooks.deployment"] == "LLMServer:m"
        assert span.attributes["serve_llm_hooks.replica"] == "r1"
        assert span.attributes["process.pid"] == started.ctx.trace.process_id
    [one, _] = [span for span in spans if span.name == "check_disk"]
    assert one.attributes["serve_llm_hooks.hook"] == f"{__name__}:check_disk"
    assert one.attributes["serve_llm_hooks.point"] == "on_before_node_download"
    assert one.attributes["serve_llm_hooks.outcome"] == "ok"


def test_an_error_is_in_the_status_of_all_that_it_has_ended(exporter: InMemorySpanExporter) -> None:
    from opentelemetry.trace import StatusCode

    with pytest.raises(HookError):
        start(check_disk, breaks)
    sent = list(exporter.get_finished_spans())  # before the error was raised: Serve ends the process
    bad = {span.name: span.status.description or "" for span in sent if span.status.status_code is StatusCode.ERROR}
    assert bad.keys() == {"start", "on_before_engine_init", "breaks"}
    assert bad["breaks"] == bad["on_before_engine_init"] == "ValueError: no licence"
    assert bad["start"].startswith("HookError: ")
    assert bad["start"].endswith("ValueError: no licence")


def test_a_failure_that_was_let_pass_is_that_hooks_alone(exporter: InMemorySpanExporter) -> None:
    from opentelemetry.trace import StatusCode

    start(complains)
    bad = [span.name for span in spans_of(exporter) if span.status.status_code is StatusCode.ERROR]
    assert bad == ["complains"]


def test_the_span_that_is_current_when_the_start_begins_is_its_parent(exporter: InMemorySpanExporter) -> None:
    from opentelemetry import trace

    with trace.get_tracer("serve").start_as_current_span("replica") as around:
        start(check_disk)
    [whole] = [span for span in spans_of(exporter) if span.name == "start"]
    assert whole.parent is not None
    assert whole.parent.span_id == around.get_span_context().span_id
    assert whole.context.trace_id == around.get_span_context().trace_id


def test_the_end_of_a_replica_is_a_trace_with_a_link_to_its_start(exporter: InMemorySpanExporter) -> None:
    async def live() -> None:
        async with initialization(Config(hooks=[say_goodbye]), cluster=StubCluster()) as replica:
            replica.engine = "the engine"
        join()
        await replica.shut_down()

    run(live())
    spans = {span.name: span for span in spans_of(exporter)}
    assert [way for way in tree(list(spans.values())) if way.startswith("shutdown")] == [
        "shutdown",
        "shutdown > on_shutdown",
        "shutdown > on_shutdown > say_goodbye",
    ]
    assert [link.context.span_id for link in spans["shutdown"].links] == [spans["start"].context.span_id]
    assert spans["shutdown"].context.trace_id != spans["start"].context.trace_id


def test_a_start_that_is_not_sampled_is_not_sent(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    provider = TracerProvider(sampler=ALWAYS_OFF)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
    start(check_disk)
    assert spans_of(exporter) == []


def test_a_provider_that_fails_is_a_warning(
    exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from opentelemetry import trace

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError("no collector")

    monkeypatch.setattr(trace.get_tracer_provider(), "get_tracer", fails)
    assert start(check_disk).names == ["check_disk"] * 3
    join()
    [warning] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warning == "model 'm': what it did is not in the spans: OSError: no collector"


def test_a_fake_cluster_sends_none_as_its_times_are_virtual(exporter: InMemorySpanExporter) -> None:
    FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[check_disk]))
    assert spans_of(exporter) == []


def test_without_a_provider_nothing_is_imported_and_no_thread_begun() -> None:
    code = """
import sys, threading
from tests.unit.stub import start
begun = []
begin = threading.Thread.start
threading.Thread.start = lambda self: begun.append(self.name) or begin(self)
start()
assert not [name for name in sys.modules if name.startswith("opentelemetry")], "imported"
assert "serve-llm-hooks writes spans" not in begun, begun
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_provider_that_nobody_has_set_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    require("opentelemetry.trace", "OpenTelemetry")
    from opentelemetry import trace

    monkeypatch.setattr(trace, "_TRACER_PROVIDER", None)
    assert not Spans().are_wanted


def names_in(part: Part) -> list[str]:
    return [part.name, *(name for each in part.inside for name in names_in(each))]


@given(st.lists(EVENTS, max_size=20), st.lists(STEPS, max_size=20))
def test_each_call_and_each_step_is_once_in_the_tree(events: list[HookEvent], steps: list[StartStep]) -> None:
    told = [event for event in events if event.ran]
    part = parts_of("the start", events, steps)
    if part is None:
        assert not told
        assert not steps
        return
    points = {(event.process, event.node_id, event.process_id, event.point) for event in told}
    others = [step for step in steps if step.name != "start" or step.process]
    assert len(names_in(part)) == 1 + len(told) + len(points) + len(others)


def test_what_the_engines_processes_do_is_inside_the_engine() -> None:
    steps = [
        StartStep("import", "n0", 8, 3.0, 4.0, process="core"),
        StartStep("engine", "n0", 7, 2.0, 9.0),
        StartStep("start", "n0", 7, 0.0, 10.0),
    ]
    events = [
        HookEvent("on_engine_process_start", "m:patch", "n0", 7, 1.0, 1.5, process="frontend"),
        HookEvent("on_engine_process_start", "m:patch", "n0", 8, 4.0, 5.0, process="core"),
    ]
    whole = parts_of("start", events, steps)
    assert whole is not None
    [engine, frontend] = whole.inside
    assert names_in(engine) == ["engine", "import", "on_engine_process_start", "patch"]
    assert names_in(frontend) == ["on_engine_process_start", "patch"]
    assert engine.inside[0].attributes["serve_llm_hooks.process"] == "core"


def test_what_came_before_the_start_is_inside_it_and_begins_before_it(exporter: InMemorySpanExporter) -> None:
    """As the page on spans says."""
    before = [StartStep("process", "n0", 7, 1.0, 3.0), StartStep("serve", "n0", 7, 3.0, 10.0)]
    Spans().tell_start("m", (), (), [*before, StartStep("start", "n0", 7, 10.0, 20.0)], "")
    spans = spans_of(exporter)
    assert tree(spans) == ["start", "start > process", "start > serve"]
    times = {span.name: (span.start_time, span.end_time) for span in spans}
    assert times["start"] == (int(10e9), int(20e9))
    assert times["process"][0] < times["serve"][0] < times["start"][0] == times["serve"][1]
