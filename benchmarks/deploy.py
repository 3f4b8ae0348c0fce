"""A whole cold start: `serve.run` to the first answered request, with a real vLLM engine.

Run as a program, once for each start: `python -m benchmarks.deploy ours|theirs|timed MODEL_FOLDER` prints its moments.
With the URL of a server as `benchmarks.slow_s3` behind that, the model is downloaded from there, and its weights are
late on our side. BENCH_ACCELERATOR=gpu runs it on a GPU.
"""

from __future__ import annotations

import compileall
import gc
import json
import os
import socket
import sys
import tempfile
import time
import urllib.request
from importlib import import_module
from pathlib import Path
from typing import Any

from . import marks, slow_s3
from .steps import durations

REPOSITORY = Path(__file__).parents[1]
ACCELERATOR = os.environ.get("BENCH_ACCELERATOR", "cpu")
TRACES = "SERVE_LLM_HOOKS_TRACE_DIR"
ENGINE: dict[str, dict[str, Any]] = {"cpu": {"enforce_eager": True}, "gpu": {"gpu_memory_utilization": 0.3}}
# FlashInfer compiles its sampler when it is first used, and that needs nvcc, which a machine that only runs has not.
ENVIRONMENT = {"cpu": {"VLLM_CPU_KVCACHE_SPACE": "1"}, "gpu": {"VLLM_USE_FLASHINFER_SAMPLER": "0"}}


def main(side: str, model: str, url: str = "") -> dict[str, Any]:
    """The moments of one start, in seconds since `serve.run` was called; for `timed`, what is our own in it as well."""
    compile_once()
    folder = Path(tempfile.mkdtemp())
    file = folder / "marks"
    import ray
    from ray import serve

    import_module("ray.serve.llm")  # as long as it takes, and on both sides before the clock runs
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={
            "env_vars": {"PYTHONPATH": str(REPOSITORY), marks.VARIABLE: str(file), TRACES: str(folder / "traces")}
        },
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
            "runtime_env": {"env_vars": ENVIRONMENT[ACCELERATOR]},
        }
        if url:
            fields |= _downloaded(fields, url, late=side != "theirs")
        driver = Driver(side, fields)
        gc.collect()
        begun_s = time.time()
        app = driver.build()
        built_s = time.time()
        serve.run(app, name="bench", route_prefix="/")
        ready_s = time.time()
        _ask(port)
        ends = {"built": built_s, "ready": ready_s, "first token": time.time()}
        noted, parts = marks.read(file)
        moments = {name: at_s - begun_s for name, at_s in {**noted, **ends}.items()}
        if side == "ours":
            share = unnamed_share(saved_trace(folder / "traces"), built_s, ready_s)
            return {"moments": moments, "unnamed_share": share}
        if side != "timed":
            return {"moments": moments}
        parts = driver.parts | parts
        return {
            "moments": moments,
            "steps": durations(moments, 0.0),
            "parts": parts,
            "own_s": sum(parts.values()),
        }
    finally:
        serve.shutdown()
        ray.shutdown()


def _downloaded(fields: dict[str, Any], url: str, *, late: bool) -> dict[str, Any]:
    """The fields of the same model in a bucket, which no machine has downloaded yet."""
    environment = {
        **fields["runtime_env"]["env_vars"],
        "HF_HOME": tempfile.mkdtemp(),
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return {
        "model_loading_config": {"model_id": "deployed", "model_source": slow_s3.BUCKET},
        "runtime_env": {"env_vars": environment},
        **({"weights": "late"} if late else {}),
    }


def unnamed_share(trace: Any, begin_s: float, end_s: float) -> float:
    """Return the part of a time for which the trace of a start names no hook and no step."""
    parts = [*trace, *(step for step in trace.steps if step.name != "start")]
    named_s, until_s = 0.0, begin_s
    for part in sorted(parts, key=lambda each: each.start_s):
        named_s += max(0.0, min(part.end_s, end_s) - max(part.start_s, until_s))
        until_s = max(until_s, part.end_s)
    return 1 - named_s / (end_s - begin_s)


def saved_trace(folder: Path) -> Any:
    """Return the trace of the one start that is saved in a folder, or is about to be."""
    deadline_s = time.monotonic() + 30
    while not (saved := list(folder.glob("*.json"))) and time.monotonic() < deadline_s:
        time.sleep(0.1)  # it is written beside the replica's work
    [trace] = import_module("serve_llm_hooks").load_traces(saved[0].read_text()).values()
    return trace


def compile_once() -> None:
    """As installed: compiled already. (An environment may forbid Python to write what it compiles.)"""
    for folder in ("serve_llm_hooks", "serve_llm_hooks_engine", "benchmarks"):
        compileall.compile_dir(REPOSITORY / folder, quiet=1)


class Driver:
    """Makes the app of a side. `parts`: what of that, and of pickling it later, is this library's own."""

    def __init__(self, side: str, fields: dict[str, Any]) -> None:
        self.parts: dict[str, float] = {}
        self._side = side
        self._fields = fields
        if side != "theirs":
            gc.collect()  # what Ray's imports left: it takes long, and would count as whatever runs at the time
            begun_s = time.perf_counter()
            self._ours = import_module("serve_llm_hooks.ray.app")
            self.parts["driver: imports"] = time.perf_counter() - begun_s
        if side == "timed":
            self._fields = {**fields, "server_cls": "benchmarks.timed.LLMServer"}
            import_module("benchmarks.timed")  # the stopwatch is no part of what it measures

    def build(self) -> Any:
        """The app, as somebody who serves this model makes it."""
        if self._side == "theirs":
            llm = import_module("ray.serve.llm")
            config = llm.LLMConfig(callback_config={"callback_class": "benchmarks.rays.Marks"}, **self._fields)
            return llm.build_openai_app({"llm_configs": [config]})
        if self._side == "timed":
            return self._build_timed()
        config = self._ours.LLMConfig(hooks=["benchmarks.hooks"], **self._fields)
        return self._ours.build_openai_app({"llm_configs": [config]})

    def _build_timed(self) -> Any:
        """The same. Of what both sides do (Ray's validation, Ray's builder), Ray's part is taken off."""
        self.parts |= {"driver: config": 0.0, "driver: app": 0.0, "driver: pickling": 0.0}
        rays_config = import_module("ray.serve.llm").LLMConfig
        rays_config(**self._fields)  # what only the first one pays for is Ray's
        marks.timed(self._ours.LLMConfig, "__getstate__", lambda took_s: self._add("driver: pickling", took_s))
        marks.timed(self._ours, "_ray_build_openai_app", lambda took_s: self._add("driver: app", -took_s))
        begun_s = time.perf_counter()
        rays_config(**self._fields)
        made_s = time.perf_counter()
        config = self._ours.LLMConfig(hooks=["benchmarks.hooks"], **self._fields)
        ours_s = time.perf_counter()
        app = self._ours.build_openai_app({"llm_configs": [config]})
        self._add("driver: app", time.perf_counter() - ours_s)
        self._add("driver: config", max((ours_s - made_s) - (made_s - begun_s), 0.0))
        return app

    def _add(self, name: str, took_s: float) -> None:
        self.parts[name] += took_s


def _ask(port: int) -> None:
    body = {"model": "deployed", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        json.load(response)


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    print("SAMPLES " + json.dumps(main(*sys.argv[1:])))
