"""A real deployment: `serve run`-style YAML, Ray Serve, a real vLLM engine on the CPU, asked over HTTP."""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from serve_llm_hooks import points
from tests.engine_models import make_tiny_llama

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.ray, pytest.mark.engine]

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that loads in no time and makes no sense."""
    return make_tiny_llama(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def serve_url(three_nodes: list[str]) -> Iterator[str]:
    """Ray Serve on the three nodes; its address."""
    from ray import serve

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        serve.shutdown()


@pytest.fixture
def deploy() -> Iterator[Callable[[str], Any]]:
    """Deploy the application of a YAML text, as `serve run` does; taken down at the end."""
    from ray import serve

    deployed: list[str] = []

    def run(text: str) -> Any:
        (application,) = yaml.safe_load(textwrap.dedent(text))["applications"]
        module, _, name = application["import_path"].partition(":")
        app = getattr(importlib.import_module(module), name)(application["args"])
        deployed.append(application["name"])
        return serve.run(app, name=application["name"], route_prefix=application["route_prefix"])

    yield run
    for name in deployed:
        serve.delete(name)


def chat(url: str, model: str, **fields: Any) -> tuple[int, Any]:
    """Ask; the status and the body of the answer."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], **fields}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_all_points_run_around_a_real_engine_that_then_answers(
    serve_url: str, deploy: Callable[[str], Any], tiny_model: Path
) -> None:
    from ray import serve

    deploy(f"""
        applications:
          - name: good
            route_prefix: /good
            import_path: serve_llm_hooks.ray:build_openai_app
            args:
              llm_configs:
                - model_id: tiny
                  model_loading_config: {{ model_source: /nowhere/only/a/hook/knows }}
                  hooks: [tests.integration.hooks.deployment]
                  accelerator_config: {{ kind: cpu }}
                  engine_kwargs: {{ max_model_len: 256, enforce_eager: true, dtype: bfloat16, max_num_seqs: 2 }}
                  log_engine_metrics: false
                  runtime_env:
                    env_vars: {{ VLLM_CPU_KVCACHE_SPACE: "1", TINY_MODEL: {tiny_model} }}
    """)

    events = serve.get_deployment_handle("LLMServer:tiny", "good").hook_trace.remote().result(timeout_s=60)
    assert [event.point for event in events] == [
        name for name in points.HOOK_NAMES if name not in ("on_custom_init", "on_failure")
    ]
    assert {event.name: event.outcome for event in events if event.outcome != "ok"} == {
        "before_node_download": "vetoed"
    }
    replica, node = events[0].process_id, events[2].process_id
    assert replica != node
    assert {event.process_id for event in events} == {replica, node}
    starts_s = {event.name: event.start_s for event in events}
    ends_s = {event.name: event.end_s for event in events}
    assert ends_s["before_engine_init"] <= starts_s["after_engine_init"]

    url = f"{serve_url}/good"
    status, answer = chat(url, "tiny", max_tokens=5)
    assert status == 200
    assert answer["usage"]["completion_tokens"] == 5
    long_question = [{"role": "user", "content": "very " * 1000}]
    status, other = chat(url, "tiny", max_tokens=5, messages=long_question)
    assert status == 200  # the hook's chat template leaves the question out,
    assert other["usage"]["prompt_tokens"] == answer["usage"]["prompt_tokens"]
    status, refusal = chat(url, "tiny", max_tokens=200)
    assert status == 400  # and 200 tokens fit in the config's 256, but not in the hook's 128
    assert "128" in json.dumps(refusal)


def test_serve_shows_what_failed_on_which_node(serve_url: str, deploy: Callable[[str], Any]) -> None:
    from ray import serve

    with pytest.raises(RuntimeError):
        deploy("""
            applications:
              - name: bad
                route_prefix: /bad
                import_path: serve_llm_hooks.ray:build_openai_app
                args:
                  llm_configs:
                    - model_id: tiny
                      model_loading_config: { model_source: /nowhere }
                      hooks: [tests.integration.hooks.failing]
                      accelerator_config: { kind: cpu }
                      deployment_config: { max_constructor_retry_count: 1 }
                      log_engine_metrics: false
        """)
    message = serve.status().applications["bad"].deployments["LLMServer:tiny"].message
    assert "NodeInitializationError: 1 node of model 'tiny' could not be initialized" in message
    assert "mount_store failed at on_before_node_download" in message
    assert "ConnectionError: the store does not answer" in message


def test_the_demo() -> None:
    """`make demo`, in a process of its own, with a Ray of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "HF_"))}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "demo.py")],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
        env=environment,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Paris" in done.stdout
    for name in ("check_disk", "short_context", "warm_up", "timings"):
        assert name in done.stdout
