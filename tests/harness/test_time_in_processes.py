"""One clock for all processes of a run."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks_testing import DeadlockError, FakeCluster, FakeLLMConfig, HarnessWarning

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, HookRegistry, NodeCtx
    from serve_llm_hooks_testing import FakeRun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")

every_kind = pytest.mark.parametrize("processes", [False, "nodes", True])


def start(hooks: HookRegistry, processes: Any, **settings: Any) -> FakeRun:
    return FakeCluster(processes=processes, **settings).run(FakeLLMConfig("m", hooks=[hooks]))


@every_kind
def test_a_sync_hook_on_a_node_sleeps_in_no_time(hooks: HookRegistry, processes: Any) -> None:
    @hooks.hook("on_before_node_download")
    def back_off(ctx: NodeCtx) -> None:
        begun_s = time.monotonic()
        for attempt in range(3):
            time.sleep(10 * 2**attempt)
        ctx.custom_data["took"] = time.monotonic() - begun_s

    run = start(hooks, processes, download_s=0, engine_start_s=0)
    assert run.ctx is not None
    assert [node.custom_data["took"] for node in run.ctx.nodes.values()] == [70] * 3
    assert run.elapsed_s == 70


@every_kind
def test_all_processes_tell_the_same_time(hooks: HookRegistry, processes: Any) -> None:
    def read() -> list[float]:
        return [time.time(), time.monotonic(), time.perf_counter()]

    @hooks.hook("on_before_init")
    def in_replica(ctx: CallbackCtx) -> None:
        time.sleep(3)
        ctx.custom_data["begun"] = read()

    @hooks.hook("on_before_node_download")
    async def on_node(ctx: NodeCtx) -> None:
        await asyncio.sleep(1 + int(ctx.node_id[-1]))
        ctx.custom_data["after"] = [now - begun for now, begun in zip(read(), ctx.custom_data["begun"], strict=True)]

    run = start(hooks, processes)
    assert run.ctx is not None
    assert [node.custom_data["after"] for node in run.ctx.nodes.values()] == [[1] * 3, [2] * 3, [3] * 3]


@pytest.mark.parametrize("processes", ["nodes", True])
def test_a_hook_that_blocks_its_loop_keeps_to_the_time_of_all(hooks: HookRegistry, processes: Any) -> None:
    @hooks.hook("on_before_node_download")
    async def on_node(ctx: NodeCtx) -> None:
        if ctx.node_id == "node-1":
            time.sleep(5)
        else:
            await asyncio.sleep(2)

    with pytest.warns(HarnessWarning, match="blocks the event loop"):
        run = start(hooks, processes, nodes=2, download_s=0, engine_start_s=30)
    assert run.elapsed_s == 5 + 30
    assert [(event.start_s, event.end_s) for event in run.trace] == [(0, 2), (0, 5)]


@every_kind
def test_a_heartbeat_on_a_node_does_not_go_on_for_ever(hooks: HookRegistry, processes: Any) -> None:
    @hooks.hook("on_before_node_download")
    async def beats(ctx: NodeCtx) -> None:
        while True:
            await asyncio.sleep(10)

    with pytest.raises(DeadlockError, match="has not ended within 100 virtual seconds"):
        start(hooks, processes, nodes=1, time_limit_s=100)
