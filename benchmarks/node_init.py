"""`initialize_node`, ours with three hooks on every node beside Ray's own without any, on a real local Ray.

Run as a program: `python -m benchmarks.node_init NODES PAIRS` prints the samples as JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from importlib import import_module
from typing import Any

ACCELERATOR = os.environ.get("BENCH_ACCELERATOR", "cpu")
BUNDLE: dict[str, float] = {"CPU": 1, "GPU": 1} if ACCELERATOR == "gpu" else {"CPU": 1}
NODE: dict[str, Any] = {"num_cpus": 4, "num_gpus": int(ACCELERATOR == "gpu")}
GONE_S = 60.0  # how long a removed group may take to give back what it held


def main(nodes: int, pairs: int) -> dict[str, list[float]]:
    """Samples in seconds, of both sides in turn."""
    import ray
    from ray.cluster_utils import Cluster
    from ray.serve.llm import LLMConfig as RayLLMConfig

    from serve_llm_hooks import initialize_node
    from serve_llm_hooks.ray import LLMConfig

    rays_initialize_node = import_module("ray.llm._internal.serve.utils.node_initialization_utils").initialize_node

    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    samples: dict[str, list[float]] = {"ours": [], "theirs": []}
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**NODE)
        ray.init(address=cluster.address, log_to_driver=False)
        with tempfile.TemporaryDirectory() as model:
            for turn in range(pairs + 1):
                for side in in_turn(turn):
                    cls = LLMConfig if side == "ours" else RayLLMConfig
                    fields: dict[str, Any] = {"hooks": ["benchmarks.hooks"]} if side == "ours" else {}
                    config = cls(
                        model_loading_config={"model_id": "m", "model_source": model},
                        accelerator_config={"kind": ACCELERATOR},
                        placement_group_config={"bundles": [BUNDLE] * nodes, "strategy": "STRICT_SPREAD"},
                        # A runtime environment that nobody had before: workers are fresh on both sides.
                        runtime_env={"env_vars": {"BENCH_TURN": f"{side}-{turn}"}},
                        **fields,
                    )
                    config.get_engine_config()  # the same work on both sides, and Ray's own
                    if side == "theirs":
                        # Ray's reads the group's nodes without waiting for the group to be scheduled, and fails when
                        # it is not yet. So it gets its group before the clock runs; ours acquires its own in time.
                        group = config.get_or_create_callback().ctx.placement_group
                        while ray.util.placement_group_table(group)["state"] != "CREATED":
                            time.sleep(0.01)
                    begun_s = time.perf_counter()
                    if side == "ours":
                        asyncio.run(initialize_node(config))
                    else:
                        asyncio.run(rays_initialize_node(config))
                    if turn:  # the first turn warms up both (half a minute)
                        samples[side].append(time.perf_counter() - begun_s)
                    _remove_groups()
    finally:
        ray.shutdown()
        cluster.shutdown()
    return samples


def in_turn(turn: int) -> tuple[str, str]:
    """Both sides; who goes first, alternates."""
    return ("theirs", "ours") if turn % 2 else ("ours", "theirs")


def _remove_groups() -> None:
    """Remove all placement groups, and wait until they are gone: the next one would wait for what they hold."""
    from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

    ray: Any = import_module("ray")
    for group_id, row in placement_group_table().items():
        if row["state"] != "REMOVED":
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group_id))))
    deadline_s = time.monotonic() + GONE_S
    while True:
        states = {row["state"] for row in placement_group_table().values()}
        free, there = ray.available_resources(), ray.cluster_resources()
        if states <= {"REMOVED"} and all(free.get(name, 0) == there[name] for name in BUNDLE):
            return
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"the placement groups are {states}; free is {free} of {there}")
        time.sleep(0.05)


if __name__ == "__main__":
    print("SAMPLES " + json.dumps(main(int(sys.argv[1]), int(sys.argv[2]))))
