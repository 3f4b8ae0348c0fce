"""Hooks with a ``yield`` on a fake cluster: what the two parts share, and what a test sees of them."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry, dump_traces, load_traces, skip
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    HarnessError,
    assert_not_run,
    assert_order,
    assert_ran_on,
    call_hook,
    callback_ctx,
    engine_fails,
    hook_fails,
    node_ctx,
    replica_dies,
)
from serve_llm_hooks_testing._monitor.monitor import MOST_KEPT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator


def sync_span(ctx: Any) -> Iterator[None]:
    yield


async def async_span(ctx: Any) -> AsyncIterator[None]:
    yield


class Spans:
    def __call__(self, ctx: Any) -> Iterator[None]:
        yield

    def method(self, ctx: Any) -> Iterator[None]:
        yield


# -- what runs --------------------------------------------------------------------------------------------------------


def events(trace: Any) -> list[str]:
    return [f"{event.name}{'.' if event.is_finish else ''} {event.outcome}" for event in trace]


def go(*fns: Any, **settings: Any) -> Any:
    config = FakeLLMConfig("m", hooks=[load(*fns)])
    return FakeCluster(nodes=2, **settings).run(config, check=False)


def load(*fns: Any) -> HookRegistry:
    hooks = HookRegistry()
    for fn, *how in (each if isinstance(each, tuple) else (each, "on_before_init") for each in fns):
        decorate: Any = hooks.hook  # a test may give it any function
        decorate(how[0], **(how[1] if len(how) > 1 else {}))(fn)
    return hooks


def wrapped(ctx: Any) -> Any:
    return sync_span(ctx)


@pytest.mark.parametrize(
    "fn",
    [
        sync_span,
        async_span,
        Spans(),
        Spans().method,
        functools.partial(sync_span),
        wrapped,
        functools.wraps(async_span)(lambda ctx: async_span(ctx)),
    ],
    ids=range(7),
)
def test_every_way_to_write_a_span(fn: Any) -> None:
    outcome = [event.outcome for event in go(fn).trace]
    assert outcome == ["ok", "ok"]


def test_a_plain_span_keeps_its_thread_and_an_async_one_its_task() -> None:
    seen: list[object] = []

    def thread(ctx: Any) -> Iterator[None]:
        seen.append(threading.current_thread())
        yield
        seen.append(threading.current_thread())

    async def task(ctx: Any) -> AsyncIterator[None]:
        seen.append(asyncio.current_task())
        async with asyncio.timeout(1000):
            yield
        seen.append(asyncio.current_task())

    assert go(thread, task).error is None
    assert seen[0] is seen[3] is not threading.current_thread()
    assert seen[1] is seen[2]


def test_the_traceback_of_the_error_that_is_raised_does_not_grow() -> None:
    def breaks(ctx: Any) -> None:
        raise OSError("no disk")

    def text(*fns: Any) -> str:
        error = go(*fns).error
        assert error is not None
        return "".join(traceback.format_exception(error.__cause__))

    alone = text((breaks, "on_after_init"))
    assert text(sync_span, async_span, (breaks, "on_after_init")) == alone


@pytest.mark.parametrize("error", [StopIteration("x"), StopAsyncIteration("x"), RuntimeError("x")])
def test_an_error_that_ends_generators_does_not_end_them_here(error: Exception) -> None:
    run = go(sync_span, async_span, engine_start_s=1, faults=[engine_fails(error)])
    assert run.error is error or isinstance(run.error, RuntimeError)
    assert events(run.trace)[2:] == ["async_span. ok", "sync_span. ok"]


def test_a_class_s_hook_that_exits_in_its_second_part() -> None:
    def exits(ctx: Any) -> Iterator[None]:
        yield
        raise SystemExit(3)

    async def exits_async(ctx: Any) -> AsyncIterator[None]:
        yield
        raise SystemExit(3)

    for fn in (exits, exits_async):
        run = go(fn)
        assert events(run.trace) == [f"{fn.__name__} ok", f"{fn.__name__}. failed"]


# -- on a fake cluster ------------------------------------------------------------------------------------------------


def test_assertions_tell_the_two_parts_apart() -> None:
    def between(ctx: Any) -> None: ...

    run = go(sync_span, (between, "on_before_download"), (async_span, "on_before_node_download"))
    assert_order(run, "sync_span", "between", "sync_span (finish)")
    assert_order(run, "async_span", "async_span (finish)", "sync_span (finish)")
    assert_ran_on(run, "async_span (finish)", node_count=2)
    assert_not_run(run, "between (finish)", "on_after_init (finish)")
    with pytest.raises(AssertionError, match=r"test_spans:sync_span \(finish\)  ok"):
        assert_order(run, "sync_span (finish)", "between")


def test_a_trace_shows_and_saves_both_parts() -> None:
    run = go(sync_span)
    assert "sync_span (finish)" in str(run.trace)
    saved = load_traces(dump_traces({"m": run.trace}))["m"]
    assert saved.events == run.trace.events
    old = dump_traces({"m": run.trace}).replace('"is_finish": true', '"is_finish": 1')
    with pytest.raises(ValueError, match="is_finish is 1, which it cannot be"):
        load_traces(old)


def test_a_lifespan_goes_on_until_the_replica_stops() -> None:
    told: list[object] = []

    async def lives(ctx: Any) -> AsyncIterator[None]:
        told.append(asyncio.current_task())
        yield
        await asyncio.sleep(3)
        told.append(asyncio.current_task())

    run = go((lives, "on_after_init", {"until": "on_shutdown"}))
    assert len(told) == 1
    assert run.shut_down(budget_s=10) == ()
    assert told[0] is told[1]
    assert run.trace.events[-1].duration_s == 3
    assert run.shut_down() == ()
    assert len(told) == 2


def test_a_lifespan_that_takes_too_long_is_told_of() -> None:
    async def lives(ctx: Any) -> AsyncIterator[None]:
        yield
        await asyncio.sleep(300)

    run = go((lives, "on_before_init", {"until": "on_shutdown"}))
    [failure] = run.shut_down(budget_s=10)
    assert "after its `yield`, for model 'm': still running when the 10 s of the hooks at on_shutdown were" in str(
        failure
    )


@pytest.mark.filterwarnings("error")
def test_only_the_last_replicas_that_nobody_has_stopped_are_kept() -> None:
    told: list[str] = []

    async def lives(ctx: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            told.append("ended")

    runs = [go((lives, "on_before_init", {"until": "on_shutdown"})) for _ in range(MOST_KEPT + 1)]
    gc.collect()
    with pytest.raises(HarnessError, match="stop each before the next ones"):
        runs[0].shut_down()
    assert told == []
    for run in runs[1:]:
        assert run.shut_down() == ()
    assert told == ["ended"] * MOST_KEPT


def test_call_hook_runs_both_parts() -> None:
    def span(ctx: Any) -> Iterator[None]:
        ctx.custom_data["told"] = ["begins"]
        try:
            yield
        except OSError as error:
            ctx.custom_data["told"].append(str(error))
            raise
        ctx.custom_data["told"].append("ends")

    hooked = HookRegistry().hook("on_before_init")(span)
    ctx = callback_ctx()
    call_hook(hooked, ctx)
    assert ctx.custom_data["told"] == ["begins", "ends"]
    failed = callback_ctx(error=OSError("no disk"))
    call_hook(hooked, failed)
    assert failed.custom_data["told"] == ["begins", "no disk"]
    call_hook(async_span, node_ctx(), point="on_after_node_download")


def test_faults_strike_spans() -> None:
    async def lives(ctx: Any) -> AsyncIterator[None]:
        yield

    config = FakeLLMConfig("m", hooks=[load(sync_span, (lives, "on_before_init", {"until": "on_shutdown"}))])
    run = FakeCluster(faults=[hook_fails("lives", OSError("no"))]).run(config, check=False)
    assert events(run.trace) == ["sync_span ok", "lives failed", "sync_span. ok"]
    run = FakeCluster(faults=[replica_dies(at="on_after_init")]).run(config)
    assert run.not_idempotent == ()
    assert len(run.earlier_starts) == 1


# -- what it holds ends before it does --------------------------------------------------------------------------------


def on(*pairs: tuple[str, Any], until: dict[Any, str] | None = None, **settings: Any) -> Any:
    registry = HookRegistry()
    for point, fn in pairs:
        options: dict[str, Any] = {"until": until[fn]} if until and fn in until else {}
        decorate: Any = registry.hook
        decorate(point, **options)(fn)
    return FakeCluster(nodes=1, **settings).run(FakeLLMConfig("m", hooks=[registry]), check=False)


def test_a_task_group_around_the_yield_hands_the_starts_error_on() -> None:
    async def beats(ctx: Any) -> AsyncIterator[None]:
        async def beat() -> None:
            while True:
                await asyncio.sleep(10)

        async with asyncio.TaskGroup() as group:
            task = group.create_task(beat())
            yield
            task.cancel()

    run = on(("on_before_init", beats), faults=[engine_fails("no GPU")])
    assert events(run.trace) == ["beats ok", "beats. ok"]
    assert str(run.error) == "no GPU"


def test_one_that_is_cancelled_at_its_yield_has_failed() -> None:
    async def holds(ctx: Any) -> AsyncIterator[None]:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(1, task.cancel)
        yield

    run = on(("on_before_init", holds))
    assert events(run.trace) == ["holds ok", "holds. failed"]
    assert "it was cancelled at its `yield`" in str(run.error)


def test_a_sync_one_is_finished_though_a_sync_hook_is_still_at_work() -> None:
    def holds(ctx: Any) -> Iterator[None]:
        yield

    async def checks(ctx: Any) -> None:
        await asyncio.sleep(5)
        raise ValueError("the licence is over")

    def is_slow(ctx: Any) -> None:
        for _ in range(100):
            time.sleep(1)

    def pages(ctx: Any) -> None: ...

    points = ("on_before_init", holds), ("on_before_init", checks), ("on_before_download", is_slow)
    run = on(*points, ("on_failure", pages), until={checks: "on_before_engine_init"})
    assert [each for each in events(run.trace) if "is_slow" not in each] == [
        "holds ok",
        "checks failed",
        "holds. ok",
        "pages ok",
    ]
    assert "the licence is over" in str(run.error)


def test_what_comes_of_the_interruption_does_not_hide_its_cause() -> None:
    async def checks(ctx: Any) -> None:
        await asyncio.sleep(5)
        raise ValueError("the licence is over")

    async def waits(ctx: Any) -> None:
        try:
            await asyncio.sleep(50)
        finally:
            raise RuntimeError("it cannot be closed")

    points = ("on_before_init", checks), ("on_before_download", waits)
    run = on(*points, until={checks: "on_before_engine_init"})
    assert "the licence is over" in str(run.error)


def test_one_that_blocks_the_loop_is_named() -> None:
    async def blocks(ctx: Any) -> AsyncIterator[None]:
        time.sleep(30)
        yield

    run = on(("on_before_init", blocks))
    assert any("blocks" in note and "time.sleep" in note for note in run.notes)


# -- what is too late -------------------------------------------------------------------------------------------------


def test_of_what_is_returned_behind_the_yield_only_the_type_is_told() -> None:
    def late(ctx: Any) -> Generator[None, None, object]:
        yield
        return "hf_S3cret"

    run = go(late)
    assert "it returned a str behind its `yield`" in str(run.error)
    assert "S3cret" not in str(run.error)


def test_a_veto_behind_the_yield_is_told_of() -> None:
    def late(ctx: Any) -> Generator[None, None, object]:
        yield
        return skip("too late")

    run = go(late)
    assert "behind its `yield`, where nothing is left to veto: `yield skip('why')` vetoes" in str(run.error)
    assert events(run.trace) == ["late ok", "late. failed"]


def test_a_plain_one_that_is_interrupted_while_it_is_set_up_is_finished_once_it_is() -> None:
    told: list[str] = []
    registry = HookRegistry()

    @registry.hook("on_before_init", until="on_after_init")
    async def fails(ctx: Any) -> None:
        await asyncio.sleep(5)
        raise OSError("behind")

    @registry.hook("on_before_init")
    def holds(ctx: Any) -> Iterator[None]:
        time.sleep(10)
        told.append("set up")
        try:
            yield
        except Exception as error:
            told.append(type(error).__name__)

    run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[registry]), check=False)
    assert told == ["set up", "HookError"]
    assert events(run.trace) == ["fails failed", "holds cancelled", "holds. ok"]
    assert run.elapsed_s == 10


def test_a_plain_one_that_is_interrupted_and_does_not_come_to_its_yield_is_not_finished() -> None:
    registry = HookRegistry()

    @registry.hook("on_before_init", until="on_after_init")
    async def fails(ctx: Any) -> None:
        await asyncio.sleep(5)
        raise OSError("behind")

    @registry.hook("on_before_init")
    def holds(ctx: Any) -> Iterator[None]:
        time.sleep(10)
        if ctx.model_id == "m":
            raise OSError("in front")
        yield

    run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[registry]), check=False)
    assert "behind" in str(run.error)
    assert events(run.trace) == ["fails failed", "holds cancelled", "holds. ok"]


def test_a_sync_hook_that_is_interrupted_is_in_the_trace() -> None:
    registry = HookRegistry()

    @registry.hook("on_before_init", until="on_after_init")
    async def fails(ctx: Any) -> None:
        await asyncio.sleep(5)
        raise OSError("behind")

    @registry.hook("on_before_init")
    def quick(ctx: Any) -> None: ...

    @registry.hook("on_before_init")
    def works(ctx: Any) -> None:
        time.sleep(10)

    @registry.hook("on_before_init")
    def never(ctx: Any) -> None: ...

    run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[registry]), check=False)
    assert events(run.trace) == ["fails failed", "quick ok", "works cancelled"]
