"""The hooked server, with a stopwatch: how much of a cold start is spent in this library's own code."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from ray.serve.llm.deployment import LLMServer as RayLLMServer

from serve_llm_hooks import initialization
from serve_llm_hooks.ray import RayCluster
from serve_llm_hooks.ray.callback import hand_over

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks.node import NodeReport, NodeTask


class TimedCluster(RayCluster):
    """Adds up the time that Ray takes for what it is asked."""

    rays_s = 0.0
    nodes_own_s = 0.0

    async def acquire_placement_group(self, llm_config: Any) -> Any:
        """As it is, timed."""
        begun_s = time.perf_counter()
        group = await super().acquire_placement_group(llm_config)
        self.rays_s += time.perf_counter() - begun_s
        return group

    async def node_ids(self, placement_group: Any, own_bundles: Sequence[int] | None = None) -> list[str]:
        """As it is, timed."""
        begun_s = time.perf_counter()
        nodes = await super().node_ids(placement_group, own_bundles)
        self.rays_s += time.perf_counter() - begun_s
        return nodes

    async def run_on_node(self, task: NodeTask, *, runtime_env: dict[str, Any] | None) -> NodeReport:
        """As it is, timed; what the node's side of this library takes is counted as ours again."""
        begun_s = time.perf_counter()
        report = await super().run_on_node(task, runtime_env=runtime_env)
        self.rays_s += time.perf_counter() - begun_s
        self.nodes_own_s += report.end_s - report.start_s - sum(event.duration_s for event in report.events)
        return report


class LLMServer(RayLLMServer):
    """`serve_llm_hooks.ray.LLMServer`, with the stopwatch around each of its steps."""

    __serve_llm_hooks_server__ = True

    async def start(self) -> None:
        """Start, and note how long what took."""
        from .hooks import mark

        cluster, config = TimedCluster(), self._llm_config
        begun_s = time.perf_counter()
        async with initialization(config, cluster=cluster) as run:
            hand_over(config, run.ctx)
            engine_begun_s = time.perf_counter()
            await super().start()
            engine_s = time.perf_counter() - engine_begun_s
            run.engine = self.engine
        total_s = time.perf_counter() - begun_s
        hooks_s = sum(event.duration_s for event in run.trace if event.process_id == os.getpid())
        mark(f"own:{total_s - engine_s - cluster.rays_s - hooks_s + cluster.nodes_own_s:.6f}")
