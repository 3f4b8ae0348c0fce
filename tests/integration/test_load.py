"""Many hooks and much data on a real Ray of three nodes."""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import NodeCtx, hook, initialization

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks._replica.initialize import Initialization

pytestmark = pytest.mark.ray


def start(config: Any) -> Initialization:
    """One start, to its end."""
    from serve_llm_hooks.ray import RayCluster

    async def run() -> Initialization:
        async with initialization(config, cluster=RayCluster()) as run:
            pass
        return run

    return asyncio.run(run())


def test_a_hundred_hooks_on_each_of_three_nodes(make_config: Callable[..., Any], three_nodes: list[str]) -> None:
    def numbered(number: int) -> Any:
        async def asynchronous(ctx: NodeCtx) -> None:
            ctx.custom_data.setdefault("ran", []).append(number)

        def synchronous(ctx: NodeCtx) -> None:
            ctx.custom_data.setdefault("ran", []).append(number)

        function: Any = asynchronous if number % 3 == 0 else synchronous
        return (hook("on_before_node_download") if number < 50 else hook("on_after_node_download"))(function)

    run = start(make_config(*map(numbered, range(100))))

    assert set(run.ctx.nodes) == set(three_nodes)
    for node_id, node in run.ctx.nodes.items():
        assert node.custom_data == {"ran": list(range(100))}
        assert [event.outcome for event in run.trace if event.node_id == node_id] == ["ok"] * 100


def test_fifty_megabytes_from_each_node_arrive_whole(make_config: Callable[..., Any], three_nodes: list[str]) -> None:
    def bring(ctx: NodeCtx) -> None:
        import random

        much = random.Random(ctx.node_id).randbytes(50_000_000)
        ctx.custom_data["much"] = much
        ctx.custom_data["digest"] = hashlib.sha256(much).hexdigest()

    run = start(make_config(hook("on_before_node_download")(bring)))

    assert set(run.ctx.nodes) == set(three_nodes)
    for node in run.ctx.nodes.values():
        assert len(node.custom_data["much"]) == 50_000_000
        assert hashlib.sha256(node.custom_data["much"]).hexdigest() == node.custom_data["digest"]
    assert len({node.custom_data["digest"] for node in run.ctx.nodes.values()}) == 3
