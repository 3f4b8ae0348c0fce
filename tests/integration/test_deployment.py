"""A real deployment: `serve run`-style YAML, Ray Serve, a real vLLM engine on the CPU, asked over HTTP."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployed import check, deploy, good_application, look
from tests.engine_models import make_tiny_llama

pytestmark = [pytest.mark.ray, pytest.mark.engine]

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that loads in no time and makes no sense."""
    return make_tiny_llama(tmp_path_factory.mktemp("model") / "tiny")


def test_all_points_run_around_a_real_engine_that_then_answers(serve_url: str, tiny_model: Path) -> None:
    from ray import serve

    try:
        deploy(good_application("cpu", tiny_model))
        check(look(serve_url))
    finally:
        serve.delete("good")


def test_serve_shows_what_failed_on_which_node(serve_url: str) -> None:
    from ray import serve

    application = """
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
    """
    try:
        with pytest.raises(RuntimeError):
            deploy(application)
        message = serve.status().applications["bad"].deployments["LLMServer:tiny"].message
    finally:
        serve.delete("bad")
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
