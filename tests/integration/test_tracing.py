"""OpenTelemetry's spans of a real start, in a Ray that was set up for tracing as Ray's own docs say."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests import stub_engine

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]

# In a process of its own: a Ray is set up for tracing when it starts.
START = f"""
import sys
import ray
from ray import serve
from ray.serve.llm import build_llm_deployment
from serve_llm_hooks.ray import LLMConfig

ray.init(
    address="local",
    num_cpus=4,
    include_dashboard=False,
    _tracing_startup_hook="tests.integration.hooks.traced:set_up",
    runtime_env={{"env_vars": {{"TEST_SPANS": sys.argv[1], "PYTHONPATH": sys.argv[2]}}}},
)
try:
    serve.start(http_options={{"location": "NoServer"}})
    config = LLMConfig(
        model_id="traced",
        hooks=["tests.integration.hooks.traced"],
        model_loading_config={{"model_source": "/nowhere"}},
        accelerator_config={{"kind": "cpu"}},
        log_engine_metrics=False,
        runtime_env={{"env_vars": {{"RAYLLM_VLLM_ENGINE_CLS": {stub_engine.PATH!r}}}}},
    )
    serve.run(build_llm_deployment(config), name="traced", route_prefix=None)
finally:
    serve.shutdown()
    ray.shutdown()
"""


def test_a_start_is_a_tree_of_spans_inside_rays_own(tmp_path: Path) -> None:
    file = tmp_path / "spans"
    path = os.pathsep.join([str(ROOT), str(ROOT / "testing"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "TEST_SPANS": str(file)}
    done = subprocess.run(
        [sys.executable, "-c", START, file, path],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    spans: dict[str, Any] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        span = json.loads(line)
        spans[span["context"]["span_id"]] = span
    ours = [span for span in spans.values() if "serve_llm_hooks.model" in span["attributes"]]
    inside = {span["name"]: spans[span["parent_id"]]["name"] for span in ours if span["name"] != "node"}
    assert inside.pop("start").endswith(".initialize_and_get_metadata ray.remote_worker")  # Ray's own, of the replica
    points = {"on_before_init": "start", "on_before_node_download": "node"}
    hooks = {"in_the_replica": "on_before_init", "on_the_node": "on_before_node_download"}
    steps = dict.fromkeys(("process", "serve", "imports", "placement group", "nodes", "engine"), "start")
    assert inside == {**points, **hooks, **steps}
    assert len({span["context"]["trace_id"] for span in ours}) == 1
    pids = {span["name"]: span["attributes"]["process.pid"] for span in ours}
    assert pids["on_the_node"] != pids["in_the_replica"] == pids["start"]
