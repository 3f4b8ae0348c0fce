"""A whole cold start: `serve.run` to the first answered request, with a real vLLM engine on the CPU.

Run as a program, once for each start: `python -m benchmarks.deploy ours|theirs|timed MODEL_FOLDER` prints its moments.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
ACCELERATOR = os.environ.get("BENCH_ACCELERATOR", "cpu")
ENGINE: dict[str, dict[str, Any]] = {"cpu": {"enforce_eager": True}, "gpu": {"gpu_memory_utilization": 0.3}}


def main(side: str, model: str) -> dict[str, Any]:
    """The moments of one start, in seconds since `serve.run` was called."""
    marks = Path(tempfile.mkdtemp()) / "marks"
    import ray
    from ray import serve
    from ray.serve.llm import LLMConfig as RayLLMConfig
    from ray.serve.llm import build_openai_app as rays_build_openai_app

    from serve_llm_hooks.ray import LLMConfig, build_openai_app

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(REPOSITORY), "BENCH_MARKS": str(marks)}},
    )
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        fields: dict[str, Any] = {
            "model_loading_config": {"model_id": "deployed", "model_source": model},
            "accelerator_config": {"kind": ACCELERATOR},
            "engine_kwargs": {"max_model_len": 256, "dtype": "bfloat16", "max_num_seqs": 2, **ENGINE[ACCELERATOR]},
            "log_engine_metrics": False,
            "runtime_env": {"env_vars": {"VLLM_CPU_KVCACHE_SPACE": "1"}},
        }
        begun_s = time.time()
        if side != "theirs":
            if side == "timed":
                fields["server_cls"] = "benchmarks.timed.LLMServer"
            app = build_openai_app({"llm_configs": [LLMConfig(hooks=["benchmarks.hooks"], **fields)]})
        else:
            callback = {"callback_class": "benchmarks.rays.Marks"}
            app = rays_build_openai_app({"llm_configs": [RayLLMConfig(callback_config=callback, **fields)]})
        serve.run(app, name="bench", route_prefix="/")
        ready_s = time.time()
        _ask(port)
        moments = {"ready": ready_s - begun_s, "first token": time.time() - begun_s}
        result: dict[str, Any] = {"moments": moments}
        for line in marks.read_text().splitlines():
            name, at_s = json.loads(line)
            if name.startswith("own:"):
                result["own_s"] = float(name.removeprefix("own:"))
            else:
                moments[name] = at_s - begun_s
        return result
    finally:
        serve.shutdown()
        ray.shutdown()


def _ask(port: int) -> None:
    body = {"model": "deployed", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        json.load(response)


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    print("SAMPLES " + json.dumps(main(sys.argv[1], sys.argv[2])))
