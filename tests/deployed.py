"""One deployment with a hook at every point, on whatever accelerator: how it is described, asked, and checked.

The CPU test and the GPU test share it. As a program, `python -m tests.deployed cpu|gpu MODEL_FOLDER`, it starts a Ray
of its own, and prints what it saw as JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import sys
import time
import urllib.error
import urllib.request
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from serve_llm_hooks import HOOK_POINTS
from serve_llm_hooks._core.points import HOOK_NAMES

APPLICATION = """
applications:
  - name: good
    route_prefix: /good
    import_path: serve_llm_hooks.ray:build_openai_app
    args:
      llm_configs:
        - model_id: tiny
          model_loading_config: { model_source: /nowhere/only/a/hook/knows }
          hooks: [tests.integration.hooks.deployment]
          accelerator_config: { kind: $ACCELERATOR }
          engine_kwargs: { max_model_len: 256, dtype: bfloat16, max_num_seqs: 2, $ENGINE }
          log_engine_metrics: false
          runtime_env:
            env_vars: { $ENVIRONMENT, TINY_MODEL: $MODEL, ACCELERATOR: $ACCELERATOR }
"""
# On a GPU with all that makes its start slow: CUDA graphs and torch.compile.
ENGINE = {"cpu": "enforce_eager: true", "gpu": "gpu_memory_utilization: 0.3"}
# FlashInfer compiles its sampler when it is first used, and that needs nvcc, which a machine that only runs has not.
ENVIRONMENT = {"cpu": 'VLLM_CPU_KVCACHE_SPACE: "1"', "gpu": 'VLLM_USE_FLASHINFER_SAMPLER: "0"'}

# What ran, in order, as [point, hook, outcome, "replica" or "node"]. Every accelerator is held to it, and it was
# recorded on the CPU, by `python -m tests.deployed cpu MODEL_FOLDER --record`.
RECORDED = Path(__file__).with_suffix(".json")


def good_application(accelerator: str, model: Path) -> str:
    """The application, as the YAML that `serve run` takes."""
    text = APPLICATION.replace("$ACCELERATOR", accelerator).replace("$MODEL", str(model))
    return text.replace("$ENGINE", ENGINE[accelerator]).replace("$ENVIRONMENT", ENVIRONMENT[accelerator])


def deploy(text: str) -> str:
    """Deploy the application of a YAML text, as `serve run` does; gives its name."""
    from ray import serve

    (application,) = yaml.safe_load(text)["applications"]
    module, _, name = application["import_path"].partition(":")
    app = getattr(importlib.import_module(module), name)(application["args"])
    serve.run(app, name=application["name"], route_prefix=application["route_prefix"])
    return str(application["name"])


def start_serve() -> str:
    """Start Serve on loopback; its address."""
    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    return f"http://127.0.0.1:{port}"


def chat(url: str, model: str, **fields: Any) -> tuple[int, Any]:
    """Ask; the status and the body of the answer. Greedily: how long the answer is, is no matter of luck."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "temperature": 0, **fields}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    deadline_s = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                return response.status, json.load(response)
        except urllib.error.HTTPError as error:
            text = error.read()
            # Serve's proxy hears of an application some moments after `serve.run`, on a busy machine seconds.
            if not (error.code == 404 and text.startswith(b"Path ")) or time.monotonic() > deadline_s:
                return error.code, json.loads(text)
        time.sleep(0.1)


def look(serve_url: str) -> dict[str, Any]:
    """Return what can be seen of the good application from outside."""
    import ray
    from ray import serve

    url = f"{serve_url}/good"
    long_question = [{"role": "user", "content": "very " * 1000}]
    events = serve.get_deployment_handle("LLMServer:tiny", "good").hook_trace.remote().result(timeout_s=300)
    return {
        "events": [event._asdict() | {"name": event.name} for event in events],
        "answer": chat(url, "tiny", max_tokens=5),
        "answer_to_long_question": chat(url, "tiny", max_tokens=5, messages=long_question),
        "refusal": chat(url, "tiny", max_tokens=200),
        "bundles": [
            bundle
            for row in ray.util.placement_group_table().values()
            if row["state"] == "CREATED"
            for bundle in row["bundles"].values()
        ],
    }


def normalized(events: list[dict[str, Any]]) -> list[list[str]]:
    """Return what ran, in order, without what differs from run to run."""
    replica = events[0]["process_id"]
    return [
        [event["point"], event["name"], event["outcome"], "replica" if event["process_id"] == replica else "node"]
        for event in events
    ]


def check(seen: dict[str, Any]) -> None:
    """All that must hold, on any accelerator."""
    events = seen["events"]
    assert normalized(events) == json.loads(RECORDED.read_text())
    assert [event["point"] for event in events] == [  # and what is recorded leaves nothing out
        name for name in HOOK_NAMES if HOOK_POINTS[name].during == "start" and name != "on_custom_init"
    ]
    # The replica, a worker of the engine, and a task on the node before and after the engine.
    assert len({event["process_id"] for event in events}) == 4
    for earlier, later in pairwise(events):
        assert earlier["end_s"] <= later["start_s"] + 0.05  # two processes' clocks

    status, answer = seen["answer"]
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 5
    status, other = seen["answer_to_long_question"]
    assert status == 200  # the hook's chat template leaves the question out,
    assert other["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    status, refusal = seen["refusal"]
    assert status == 400  # and 200 tokens fit in the config's 256, but not in the hook's 128
    assert "128" in json.dumps(refusal)


def main(accelerator: str, model: str) -> dict[str, Any]:
    """On a Ray of its own."""
    import ray
    from ray import serve

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[1])}},
    )
    try:
        url = start_serve()
        deploy(good_application(accelerator, Path(model)))
        return look(url)
    finally:
        serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    seen = main(sys.argv[1], sys.argv[2])
    if sys.argv[3:] == ["--record"]:
        rows = ",\n".join(f"  {json.dumps(row)}" for row in normalized(seen["events"]))
        RECORDED.write_text(f"[\n{rows}\n]\n")
    print("SEEN " + json.dumps(seen))
