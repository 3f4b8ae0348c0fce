"""What a start makes of the processes of its engine: their calls, their failures, and those that say nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    EngineProcessCtx,
    HookError,
    HookLoadError,
    HookPickleError,
    hook,
    initialization,
    initialize_node,
)
from serve_llm_hooks._process.task import Process
from tests.unit.stub import Config, Failed, StubCluster, run, start

if TYPE_CHECKING:
    from serve_llm_hooks._process.task import ProcessReport

CORE = Process("core")


@hook("on_engine_process_start")
def register(ctx: EngineProcessCtx) -> None: ...


@hook("on_engine_process_start")
def fails_in_core(ctx: EngineProcessCtx) -> None:
    if ctx.role == "core":
        raise LookupError("no such parser")


def unchanged(report: ProcessReport) -> ProcessReport:
    return report


def start_failing(*hooks: Any, cluster: StubCluster, error: Exception | None = None) -> BaseException:
    """Start a replica whose engine fails with this, and return what the start fails with."""

    async def main() -> None:
        async with initialization(Config(hooks=hooks), cluster=cluster):
            if error is not None:
                raise error

    with pytest.raises(Exception) as caught:  # whatever it is, the test looks at it
        run(main())
    return caught.value


def test_the_calls_of_all_processes_are_in_the_trace() -> None:
    started = start(register, cluster=StubCluster(engine_workers=2))
    assert [event.process for event in started.ctx.trace] == ["frontend", "core", "worker-0", "worker-1"]
    assert "node-0 worker-1" not in str(started.ctx.trace)
    assert "n0 worker-1" in str(started.ctx.trace)


def test_without_such_hooks_nothing_is_opened() -> None:
    @hook("on_before_init")
    def first(ctx: CallbackCtx) -> None: ...

    cluster = StubCluster()
    cluster.open_processes = None  # type: ignore[method-assign,assignment]  # it would fail
    assert start(first, cluster=cluster).names == ["first"]


def test_a_hooks_own_error_is_raised_and_the_engines_is_its_cause() -> None:
    failed = Failed()
    engines = RuntimeError("Engine core initialization failed")
    error = start_failing(fails_in_core, failed.hook(), cluster=StubCluster(), error=engines)
    assert type(error) is HookError
    assert str(error).endswith("in core on node n0: LookupError: no such parser")
    assert error.__cause__ is engines
    assert failed.error is error


def test_a_failure_counts_also_where_the_engine_has_started() -> None:
    assert "no such parser" in str(start_failing(fails_in_core, cluster=StubCluster()))


def test_an_engine_that_fails_for_its_own_reasons_fails_with_them() -> None:
    engines = RuntimeError("CUDA out of memory")
    assert start_failing(register, cluster=StubCluster(), error=engines) is engines


def test_a_process_that_dies_in_a_hook_is_told_with_it() -> None:
    def died(report: ProcessReport) -> ProcessReport:
        return report._replace(running="acme.hooks:register", process_id=42)

    engines = RuntimeError("Engine core initialization failed")
    error = start_failing(register, cluster=StubCluster(processes={CORE: died}), error=engines)
    assert type(error) is HookError
    assert (error.hook, error.process) == ("acme.hooks:register", "core")
    assert "the engine's start failed while process 42 ran it" in str(error)
    assert error.__cause__ is engines


@pytest.mark.parametrize(
    ("processes", "missing"),
    [
        ([CORE, Process("worker", 1)], "worker-0 of the engine did not run 1 hook"),
        ([Process("worker", 0), Process("worker", 1)], "core of the engine did not run 1 hook"),
        ([CORE], "worker-0, worker-1 of the engine did not run 1 hook"),
        ([], "no process of the engine has run 1 hook at on_engine_process_start, tests.unit.replica"),
    ],
)
def test_a_process_that_says_nothing_is_an_error(processes: list[Process], missing: str) -> None:
    cluster = StubCluster(engine_workers=2, processes=dict.fromkeys(processes, unchanged))
    with pytest.raises(HookLoadError, match=missing):
        start(register, cluster=cluster)


def test_a_core_may_be_its_own_worker() -> None:
    both = Process("core", is_worker_too=True)
    started = start(register, cluster=StubCluster(processes={both: unchanged}))
    assert [event.process for event in started.ctx.trace] == ["frontend", "core"]


def test_where_the_frontend_fails_the_engine_is_not_started() -> None:
    @hook("on_engine_process_start", roles="frontend")
    def fails(ctx: EngineProcessCtx) -> None:
        raise LookupError("no such parser")

    cluster = StubCluster()
    with pytest.raises(HookError, match="in frontend on node n0: LookupError"):
        start(fails, cluster=cluster)
    assert "engine" not in cluster.calls
    assert cluster.process_task is None  # closed again


def test_data_that_cannot_be_sent_is_told_with_its_key() -> None:
    @hook("on_before_engine_init")
    def put(ctx: CallbackCtx) -> None:
        ctx.custom_data["lock"] = (each for each in "")

    with pytest.raises(HookPickleError, match=r"ctx\.custom_data\['lock'\]"):
        start(put, register)


def test_what_processes_are_given_is_the_data_before_the_engine() -> None:
    @hook("on_before_engine_init")
    def put(ctx: CallbackCtx) -> None:
        ctx.custom_data["parser"] = "ours"

    @hook("on_engine_process_start", on_error="warn")
    def tell(ctx: EngineProcessCtx) -> None:
        raise LookupError(ctx.custom_data["parser"])

    started = start(put, tell)
    assert {event.detail for event in started.ctx.trace if event.process} == {"LookupError: ours"}


def test_without_anything_that_starts_an_engine_such_a_hook_is_refused() -> None:
    with pytest.raises(HookLoadError, match=r"start_engine=my_start"):
        run(initialize_node(Config(hooks=[register]), cluster=StubCluster()))


@hook("on_before_init", until="on_engine_process_start")
def fetch(ctx: CallbackCtx) -> None:
    ctx.custom_data["fetched"] = True


@hook("on_before_engine_init", until="on_engine_process_start")
def fails_to_fetch(ctx: CallbackCtx) -> None:
    raise OSError("no space left")


def test_the_workers_are_told_when_the_background_is_over() -> None:
    started = start(fetch, cluster=StubCluster())
    assert "release" in started.cluster.calls
    assert started.ctx.custom_data["fetched"]


def test_what_the_background_has_failed_with_is_raised_for_what_came_of_it() -> None:
    cluster = StubCluster()

    async def main() -> None:
        async with initialization(Config(hooks=[fails_to_fetch]), cluster=cluster):
            while not any(call.startswith("release") for call in cluster.calls):
                time.sleep(0.001)  # vLLM blocks the loop until it has failed
            raise RuntimeError("Engine core initialization failed")

    with pytest.raises(HookError, match=r"fails_to_fetch failed at on_before_engine_init.*no space left") as caught:
        run(main())
    assert isinstance(caught.value.__cause__, OSError)
    assert str(caught.value.__context__) == "Engine core initialization failed"
    assert any("no space left" in call for call in cluster.calls if call.startswith("release"))


def test_workers_that_have_not_waited_are_an_error() -> None:
    wrong = "worker-0 of the engine did not wait for tests.unit.replica.test_processes:fetch, at work until on_engine_"
    with pytest.raises(HookLoadError, match=wrong):
        start(fetch, cluster=StubCluster(processes={CORE: unchanged}))


def test_without_anything_that_starts_an_engine_nothing_can_wait() -> None:
    with pytest.raises(HookLoadError, match=r"fetch at on_before_init, with until='on_engine_process_start', can nev"):
        run(initialize_node(Config(hooks=[fetch]), cluster=StubCluster()))
