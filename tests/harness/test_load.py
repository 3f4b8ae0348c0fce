"""Many starts at once, much data: nothing is mixed up, nothing is cut off."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from serve_llm_hooks import CallbackCtx, NodeCtx, hook
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

RUNS = 200
_meeting = threading.Barrier(RUNS)  # without a timeout, which would be virtual: the others are in other runs


def meet() -> None:
    """Come back when all runs are here. A function of the module: it travels by reference, which a barrier cannot."""
    _meeting.wait()


def test_starts_at_once_stay_apart() -> None:
    """All runs meet in a hook, so that all of them are under way at the same time; each in a thread of its own."""

    def hooks_of(number: int) -> list[Any]:
        def before_download(ctx: CallbackCtx) -> None:
            ctx.custom_data["number"] = number
            meet()

        def on_node(ctx: NodeCtx) -> None:
            ctx.custom_data["seen"] = (ctx.model_id, ctx.node_id, ctx.custom_data["number"])

        def before_engine(ctx: CallbackCtx) -> None:
            ctx.extra_init_kwargs["max_model_len"] = 1000 + ctx.custom_data["number"]

        for function in (before_download, on_node, before_engine):
            function.__qualname__ = f"{function.__name__}_{number}"
        of_all = [hook("on_before_download")(before_download), hook("on_before_engine_init")(before_engine)]
        return [*of_all, hook("on_after_node_download")(on_node)] if number % 2 else of_all

    cluster = FakeCluster(nodes=2, real_sleep_limit_s=60)
    configs = [FakeLLMConfig(f"model-{number}", hooks_of(number)) for number in range(RUNS)]
    with ThreadPoolExecutor(RUNS) as threads:
        runs = list(threads.map(cluster.run, configs))

    for number, run in enumerate(runs):
        ran = [(event.name, event.node_id) for event in run.trace]
        on_nodes = [(f"on_node_{number}", node_id) for node_id in ("node-0", "node-1")] * (number % 2)
        assert sorted(ran) == sorted(
            [(f"before_download_{number}", "node-0"), *on_nodes, (f"before_engine_{number}", "node-0")]
        )
        assert run.ctx is not None
        assert run.ctx.custom_data == {"number": number}
        seen = [node.custom_data.get("seen") for node in run.ctx.nodes.values()]
        assert seen == [(f"model-{number}", node_id, number) if number % 2 else None for node_id in run.ctx.nodes]
        assert run.engine is not None
        assert run.engine.kwargs == {"max_model_len": 1000 + number}
        assert run.model_id == f"model-{number}"


def test_fifty_megabytes_from_each_node_arrive_whole() -> None:
    size = 50_000_000

    def bring(ctx: NodeCtx) -> None:
        ctx.custom_data["much"] = ctx.node_id.encode() + bytes(size)

    run = FakeCluster(nodes=3).run(FakeLLMConfig("m", [hook("on_before_node_download")(bring)]))

    assert run.ctx is not None
    assert {node_id: len(node.custom_data["much"]) for node_id, node in run.ctx.nodes.items()} == {
        node_id: size + len(node_id) for node_id in ("node-0", "node-1", "node-2")
    }
    for node_id, node in run.ctx.nodes.items():
        assert node.custom_data["much"].startswith(node_id.encode())
