"""Stop a replica on a fake cluster."""

from __future__ import annotations

import asyncio
import select
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import CallbackCtx, HookError, HookRegistry, HookTimeoutError, ask, skip
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    HarnessError,
    HarnessWarning,
    assert_not_run,
    assert_order,
    engine_fails,
    hook_fails,
    replica_dies,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from serve_llm_hooks_testing import FakeRun


@pytest.fixture
def hooks() -> HookRegistry:
    registry = HookRegistry()

    @registry.hook("on_after_init")
    async def register(ctx: CallbackCtx) -> None:
        ctx.custom_data["lease"] = 7

    @registry.hook("on_shutdown", timeout_s=20)
    async def deregister(ctx: CallbackCtx, *, seconds: float = 5) -> None:
        assert ctx.custom_data["lease"] == 7
        answer = await ask(ctx, "the last")
        await asyncio.sleep(seconds)
        ctx.custom_data["answer"] = answer.choices[0].message.content

    return registry


def run(hooks: HookRegistry, *, real_sleep_limit_s: float = 1.0) -> FakeRun:
    cluster = FakeCluster(engine_start_s=30, download_s=0, real_sleep_limit_s=real_sleep_limit_s)
    return cluster.run(FakeLLMConfig("m", hooks=[hooks]))


def test_the_engine_answers_and_the_clock_goes_on(hooks: HookRegistry) -> None:
    started = run(hooks)
    assert_not_run(started, "deregister")
    assert started.shut_down() == ()
    assert_order(started, "register", "deregister")
    assert started.ctx is not None
    assert started.ctx.custom_data["answer"]
    event = started.trace.events[-1]
    assert (event.start_s, event.end_s, event.outcome) == (30, 35, "ok")
    assert started.elapsed_s == 30  # of the start
    assert started.engine is not None
    assert len(started.engine.requests) == 1


def test_what_takes_longer_than_the_budget_has_timed_out(hooks: HookRegistry) -> None:
    started = run(hooks)
    (failure,) = started.shut_down(budget_s=4)
    assert isinstance(failure, HookTimeoutError)
    assert started.trace.events[-1].end_s == 34


def test_its_budget_is_what_the_config_leaves() -> None:
    late = HookRegistry()

    @late.hook("on_shutdown")
    async def drain(ctx: CallbackCtx) -> None:
        await asyncio.sleep(40)

    def failures(**settings: float) -> int:
        config = FakeLLMConfig("m", [late], deployment_config=settings)
        return len(FakeCluster().run(config).shut_down())

    assert (failures(), failures(graceful_shutdown_timeout_s=60)) == (1, 0)


def test_it_stops_once(hooks: HookRegistry) -> None:
    started = run(hooks)
    started.shut_down()
    assert started.shut_down() == ()
    assert [event.name for event in started.trace].count("deregister") == 1


def test_a_start_that_failed_has_nothing_to_stop(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init", order=1)
    def breaks(ctx: CallbackCtx) -> None:
        raise OSError

    started = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert isinstance(started.error, HookError)
    assert started.shut_down() == ()
    assert_not_run(started, "deregister", even_if_failed=True)
    with pytest.raises(AssertionError, match="because the run had failed before"):
        assert_not_run(started, "deregister")


def test_a_replica_that_died_once_is_stopped_in_its_second_life(hooks: HookRegistry) -> None:
    started = FakeCluster(faults=[replica_dies(at="on_after_init")]).run(FakeLLMConfig("m", hooks=[hooks]))
    assert started.shut_down() == ()
    (earlier,) = started.earlier_starts
    assert "deregister" not in {event.name for event in earlier.trace}


def test_a_veto_means_nothing_there(hooks: HookRegistry) -> None:
    @hooks.hook("on_shutdown")
    def vetoes(ctx: CallbackCtx) -> Any:
        return skip("not today")

    (failure,) = run(hooks).shut_down()
    assert "on_shutdown" in str(failure)


def test_one_that_blocks_is_a_note_and_a_warning() -> None:
    registry = HookRegistry()

    @registry.hook("on_shutdown")
    def blocks(ctx: CallbackCtx) -> None:
        select.select([], [], [], 1)  # long enough to be seen on a busy machine

    started = run(registry, real_sleep_limit_s=0.05)
    with pytest.warns(HarnessWarning, match="blocks"):
        started.shut_down()
    assert "blocks" in started.notes[-1]


def test_in_an_async_test_it_is_awaited(hooks: HookRegistry) -> None:
    started = run(hooks)

    async def stop() -> tuple[Exception, ...]:
        with pytest.raises(HarnessError, match=r"await run\.ashut_down\(\)"):
            started.shut_down()
        return await started.ashut_down()

    assert asyncio.run(stop()) == ()
    assert started.trace.events[-1].name == "deregister"


def test_a_time_that_is_none_is_refused(hooks: HookRegistry) -> None:
    with pytest.raises(HarnessError, match="budget_s= is a number of seconds"):
        run(hooks).shut_down(budget_s=-1)


def test_no_replica_dies_after_its_start() -> None:
    with pytest.raises(HarnessError, match="the start is over by then"):
        replica_dies(at="on_shutdown")


def test_a_fault_of_a_hook_at_shutdown_is_judged_by_shut_down(hooks: HookRegistry) -> None:
    full = OSError("disk full")
    cluster = FakeCluster(faults=[hook_fails("deregister", full)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        started = cluster.run(FakeLLMConfig("m", hooks=[hooks]))
        (failure,) = started.shut_down()
    assert failure.__cause__ is full
    assert started.unstruck == ()


def test_a_fault_that_shut_down_does_not_come_to_is_told_of_once(hooks: HookRegistry) -> None:
    @hooks.hook("on_shutdown", order=-1)
    async def takes_all(ctx: CallbackCtx) -> None:
        await asyncio.sleep(1000)

    cluster = FakeCluster(faults=[hook_fails("deregister")])
    started = cluster.run(FakeLLMConfig("m", hooks=[hooks]))
    with pytest.warns(HarnessWarning, match="never struck"):
        started.shut_down()
    assert started.unstruck == tuple(cluster.faults)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert started.shut_down() == ()


def test_a_fault_of_a_hook_at_shutdown_never_strikes_after_a_failed_start(hooks: HookRegistry) -> None:
    cluster = FakeCluster(faults=[hook_fails("deregister"), engine_fails()])
    with pytest.warns(HarnessWarning, match="never struck"):
        started = cluster.run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert len(started.unstruck) == 1


def test_nothing_is_said_of_a_start_that_has_died_while_the_next_one_lives(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init", until="on_shutdown")
    async def span(ctx: CallbackCtx) -> AsyncIterator[None]:
        yield

    cluster = FakeCluster(faults=[replica_dies(at="on_after_init")])
    started = cluster.run(FakeLLMConfig("m", hooks=[hooks]))  # its event loop is kept, and with it what has died in it
    assert len(started.earlier_starts) == 1
    assert "serve-llm-hooks progress" not in {thread.name for thread in threading.enumerate()}
    assert started.shut_down() == ()
