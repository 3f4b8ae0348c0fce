"""Background hooks on a fake cluster: in its virtual time, with its faults."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookError, HookRegistry, NodeInitializationError
from serve_llm_hooks_testing import (
    DeadlockError,
    FakeCluster,
    FakeLLMConfig,
    assert_order,
    call_hook,
    callback_ctx,
    engine_fails,
    hook_fails,
    lost_node,
    node_ctx,
    replica_dies,
)

if TYPE_CHECKING:
    from serve_llm_hooks_testing.faults import Fault

hooks = HookRegistry()


@hooks.hook("on_before_init", until="on_after_engine_init")
async def fetches(ctx: Any) -> None:
    await asyncio.sleep(35)
    ctx.custom_data["fetched"] = True


@hooks.hook("on_before_init", until="on_after_init")
def computes(ctx: Any) -> None:
    time.sleep(45)
    ctx.custom_data["computed"] = True


@hooks.hook("on_before_node_download", until="on_after_init")
async def prepares(ctx: Any) -> None:
    await asyncio.sleep(40)
    ctx.custom_data["prepared"] = ctx.node_id


@hooks.hook("on_before_engine_init")
def in_front(ctx: Any) -> None: ...


def start(*faults: Fault, **settings: Any) -> Any:
    cluster = FakeCluster(nodes=2, download_s=20, engine_start_s=30, faults=faults, **settings)
    return cluster.run(FakeLLMConfig("m", hooks=[hooks], model_source="s3://m"), check=False)


@pytest.mark.parametrize("processes", [False, True, "nodes"])
def test_it_goes_on_beside_the_download_and_the_engine(processes: Any) -> None:
    run = start(processes=processes)
    assert (run.error, run.elapsed_s, run.notes) == (None, 50, ())
    assert {"fetched", "computed"} <= run.ctx.custom_data.keys()
    assert [node.custom_data["prepared"] for node in run.ctx.nodes.values()] == ["node-0", "node-1"]
    took = {event.name: event.duration_s for event in run.trace}
    assert took == {"fetches": 35, "computes": 45, "prepares": 40, "in_front": 0}


def test_a_fault_strikes_it() -> None:
    run = start(hook_fails("fetches", OSError("no")))
    assert isinstance(run.error, HookError)
    assert run.elapsed_s < 20  # the download is interrupted
    assert [event.outcome for event in run.trace if event.name == "computes"] == ["cancelled"]  # it is left behind


def test_an_engine_that_fails_ends_it() -> None:
    run = start(engine_fails(RuntimeError("no GPU")))
    assert str(run.error) == "no GPU"
    assert [event.outcome for event in run.trace if event.name == "fetches"] == ["ok"]


def test_a_replica_that_dies_takes_it_along() -> None:
    run = start(replica_dies(at="on_after_download"))
    assert (run.error, len(run.earlier_starts)) == (None, 1)
    assert [event.name for event in run.earlier_starts[0].trace] == []
    assert [event.name for event in run.trace if event.outcome == "ok"].count("fetches") == 1


def test_a_node_that_is_lost_is_told_of() -> None:
    run = start(lost_node("node-1"))
    assert isinstance(run.error, NodeInitializationError)
    assert run.error.node_ids == ("node-1",)


def test_the_limit_for_a_node_s_work_holds() -> None:
    run = start(node_timeout_s=30)
    assert isinstance(run.error, NodeInitializationError)
    assert "did not answer within 30 s" in str(run.error)


def test_assertions_know_that_it_has_not_ended() -> None:
    run = start()
    with pytest.raises(AssertionError, match="'in_front' ran before 'fetches' had ended"):
        assert_order(run, "fetches", "in_front")


def test_call_hook_refuses_what_a_run_refuses() -> None:
    def assigns(ctx: Any) -> None:
        ctx.custom_data["tried"] = True
        ctx.model_path = "/elsewhere"

    def vetoes(ctx: Any) -> bool:
        return False

    ctx = node_ctx()
    registry: Any = HookRegistry()
    with pytest.raises(HookError, match=r"ctx\.model_path cannot be changed by a hook that works in the background"):
        call_hook(registry.hook("on_after_node_download", until="on_after_init")(assigns), ctx)
    ctx.model_path = "/by/the/test"
    assert ctx.custom_data == {"tried": True}
    with pytest.raises(HookError, match="it vetoed, but works in the background"):
        call_hook(registry.hook("on_before_download", until="on_after_init")(vetoes), callback_ctx())


def run_one(fn: Any, point: Any, until: Any, *others: Any, **settings: Any) -> Any:
    registry: Any = HookRegistry()
    registry.hook(point, until=until)(fn)
    config = FakeLLMConfig("m", hooks=[registry, *others])
    return FakeCluster(**{"nodes": 1, **settings}).run(config, check=False)


def test_one_without_an_end_is_named_where_the_start_does_not_end() -> None:
    async def beats(ctx: Any) -> None:
        while True:
            await asyncio.sleep(10)

    run = run_one(beats, "on_before_init", "on_after_init", time_limit_s=1000)
    assert isinstance(run.error, DeadlockError)
    assert "beats (at " in str(run.error)


def test_one_that_catches_its_cancellation_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async def stubborn(ctx: Any) -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(1000)

    registry = HookRegistry()

    @registry.hook("on_before_download")
    async def breaks(ctx: Any) -> None:
        await asyncio.sleep(5)
        raise OSError("no disk")

    run_one(stubborn, "on_before_init", "on_after_init", registry)
    assert "stubborn at on_before_init, in the background, was cancelled and has not ended" in caplog.text


def test_one_whose_process_ends_on_a_node_is_named() -> None:
    def exits(ctx: Any) -> None:
        os._exit(3)

    run = run_one(exits, "on_before_node_download", "on_after_init", processes="nodes")
    assert "exited with code 3 (in the background, " in str(run.error)
    assert "exits at on_before_node_download was at work there)" in str(run.error)


def test_a_key_of_one_that_has_ended_is_nobody_s_when_a_hook_in_front_has_set_it_since(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = HookRegistry()

    @registry.hook("on_before_init", until="on_before_engine_init")
    def first(ctx: Any) -> None:
        ctx.custom_data["key"] = "first"

    @registry.hook("on_before_engine_init", until="on_after_init")
    async def second(ctx: Any) -> None:
        await asyncio.sleep(5)
        ctx.custom_data["key"] = "second"

    @registry.hook("on_after_engine_init")
    def in_front(ctx: Any) -> None:
        ctx.custom_data["key"] = "in front"

    run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[registry]))
    assert run.ctx is not None
    assert run.ctx.custom_data["key"] == "in front"
    assert "was set while" in caplog.text


@pytest.mark.filterwarnings("error")
def test_one_on_a_node_that_waits_for_threads_of_its_own_takes_no_time() -> None:
    """In ten starts, since it depends on which thread comes first."""
    hooks = HookRegistry()

    def count() -> None:
        for _ in range(1_000_000):
            pass

    @hooks.hook("on_before_node_download", until="on_after_engine_init")
    def read_in_threads(ctx: Any) -> None:
        threads = [threading.Thread(target=count) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    for _ in range(10):
        assert FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[hooks])).elapsed_s == 50


def test_one_that_has_not_begun_when_its_replica_dies_is_not_complained_of() -> None:
    async def waits(ctx: Any) -> None:
        await asyncio.sleep(5)

    for _ in range(20):
        run = run_one(waits, "on_before_init", "on_after_init", faults=[replica_dies(at="on_before_init")])
        assert len(run.earlier_starts) == 1
        gc.collect()


workers = HookRegistry()


@workers.hook("on_before_node_download", until="on_engine_process_start")
async def arrives(ctx: Any) -> None:
    await asyncio.sleep(40)
    ctx.custom_data["arrived"] = True


@workers.hook("on_before_init", until="on_engine_process_start")
def is_computed(ctx: Any) -> None:
    time.sleep(25)
    ctx.custom_data["computed"] = True


@workers.hook("on_engine_process_start", roles=["core", "worker"])
def uses(ctx: Any) -> None: ...


def start_workers(*faults: Fault, **settings: Any) -> Any:
    cluster = FakeCluster(nodes=2, download_s=0, engine_start_s=30, faults=faults, **settings)
    return cluster.run(FakeLLMConfig("m", hooks=[workers], engine_kwargs={"tensor_parallel_size": 2}), check=False)


@pytest.mark.parametrize("processes", [False, True, "nodes"])
def test_workers_wait_for_it_and_the_core_does_not(processes: Any) -> None:
    run = start_workers(processes=processes)
    assert (run.error, run.elapsed_s, run.notes) == (None, 70, ())
    began = {event.process: event.start_s for event in run.trace if event.name == "uses"}
    assert began == {"core": 0, "worker-0": 40, "worker-1": 40}
    assert run.ctx.custom_data["computed"]
    assert all(node.custom_data["arrived"] for node in run.ctx.nodes.values())


def test_workers_do_not_wait_for_what_has_failed() -> None:
    run = start_workers(hook_fails("is_computed", OSError("no")))
    assert isinstance(run.error, HookError)
    assert run.error.hook.endswith(":is_computed")
    assert not [event for event in run.trace if event.process.startswith("worker")]


def test_the_limit_for_a_node_s_work_holds_where_workers_wait() -> None:
    run = start_workers(node_timeout_s=35)
    assert isinstance(run.error, NodeInitializationError)
    assert "did not answer within 35 s" in str(run.error)


def test_a_replica_that_dies_waits_again() -> None:
    run = start_workers(replica_dies(at="on_after_engine_init"))
    assert (run.error, len(run.earlier_starts), run.elapsed_s) == (None, 1, 140)


def test_the_trace_lists_it_node_by_node() -> None:
    own = HookRegistry()

    @own.hook("on_before_node_download", until="on_after_init")
    async def fills_the_cache(ctx: Any) -> None:
        await asyncio.sleep(9 - int(ctx.node_id.removeprefix("node-")))  # the last node answers first

    found = FakeCluster(nodes=5).run(FakeLLMConfig("m", hooks=[own]))
    assert [event.node_id for event in found.trace] == [f"node-{index}" for index in range(5)]
