"""A replica's start until its engine's config is there, on the path of a GPU: ours beside Ray's own, in turn.

With a GPU, Ray builds the engine's config in a task of its own. The GPUs are made up here, and the task's options are
Ray's. Run as a program: `python -m benchmarks.gpu_path NODES TURNS [MODEL_FOLDER]` prints the samples as JSON. With a
model its config is made, as on a GPU; without one the task only imports what it needs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from . import marks
from .deploy import compile_once
from .node_init import in_turn

REPOSITORY = Path(__file__).parents[1]
NODE: dict[str, Any] = {"num_cpus": 4, "num_gpus": 1}
SIDES = {"ours": ["benchmarks.hooks"], "ours without hooks": []}


def main(nodes: int, turns: int, model: str = "") -> dict[str, list[dict[str, float]]]:
    """Return each start's seconds: from the import of the server's module, and from the begin of `start()`.

    And whether the config task's process had been prewarmed: 1 or 0.
    """
    compile_once()
    import ray
    from ray import serve
    from ray.cluster_utils import Cluster

    import_module("ray.serve.llm")
    samples: dict[str, list[dict[str, float]]] = {side: [] for side in ("theirs", *SIDES)}
    cluster = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    try:
        for _ in range(nodes - 1):
            cluster.add_node(**NODE)
        ray.init(
            address=cluster.address,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "testing")])}},
        )
        with tempfile.TemporaryDirectory() as folder:
            for turn in range(turns + 1):
                order = [side for each in in_turn(turn) for side in (SIDES if each == "ours" else ["theirs"])]
                for side in order:
                    found = _start(side, nodes, Path(folder) / f"{turn} {side}", model)
                    if turn:  # the first turn warms up both
                        samples[side].append(found)
    finally:
        serve.shutdown()
        ray.shutdown()
        cluster.shutdown()
    return samples


def _start(side: str, nodes: int, file: Path, model: str) -> dict[str, float]:
    """Deploy one replica; give the seconds until its config was there."""
    from ray import serve

    variables = {
        "RAYLLM_VLLM_ENGINE_CLS": "benchmarks.gpu_server.ConfigOnly",
        "STUB_ENGINE_CONFIG_TASK": "real" if model else "1",
        "BENCH_SIDE": side,
        marks.VARIABLE: str(file),  # and with it a runtime environment that nobody had before: workers are fresh
    }
    fields: dict[str, Any] = {
        "model_loading_config": {"model_id": "m", "model_source": model or "/nowhere"},
        "placement_group_config": {"bundles": [{"CPU": 1, "GPU": 1}] * nodes, "strategy": "STRICT_SPREAD"},
        "engine_kwargs": {"tensor_parallel_size": nodes},
        "server_cls": "benchmarks.gpu_server.LLMServer",
        "log_engine_metrics": False,
        "runtime_env": {"env_vars": variables},
        "deployment_config": {"max_constructor_retry_count": 1},
    }
    os.environ["BENCH_SIDE"] = side  # the driver imports the server too, and once for both
    # The server alone: the app's ingress imports vLLM too, at the same time, and would take one of two cores from both.
    llm = import_module("ray.serve.llm")
    config = llm.LLMConfig(**fields)
    if side != "theirs":
        config = import_module("serve_llm_hooks.ray").LLMConfig(hooks=SIDES[side], **fields)
    app = llm.build_llm_deployment(config)
    serve.run(app, name="bench", route_prefix=None)
    serve.delete("bench")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    (replica,) = {process for _, name, _, process in rows if name == "start begins"}  # others import the server too
    at = {name: at_s for _, name, at_s, process in rows if process == replica}
    took = {name: at["config is there"] - at[name] for name in ("server module", "start begins")}
    return {**took, "warm": float("the process was warm" in at)}


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    print("SAMPLES " + json.dumps(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])))
