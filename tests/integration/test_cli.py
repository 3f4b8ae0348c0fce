"""The command line on a real Ray: ``trace`` of a running application, and what it knows of Ray's configs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

import pytest
from typer.testing import CliRunner

from serve_llm_hooks import HookTraceError, load_traces
from serve_llm_hooks.cli.app import app
from serve_llm_hooks.cli.serve_config import NEVER_NULL, OUR_FIELDS, RAYS_FIELDS, accelerator_types
from tests import stub_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.ray

HOOKS = "tests.integration.hooks.entrance"


def cli(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.stdout, done.stderr


@pytest.fixture(scope="module")
def running(serve_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An application of two replicas of one model, whose engine is one without a model; its name."""
    from ray import serve

    from serve_llm_hooks.ray import LLMConfig, build_openai_app

    folder = tmp_path_factory.mktemp("engines")
    variables = {
        "RAYLLM_VLLM_ENGINE_CLS": stub_engine.PATH,
        "STUB_ENGINE_SAYS": str(folder / "says"),
        "SERVE_LLM_HOOKS_NODE_DIR": str(folder / "nodes"),
    }
    config = LLMConfig(
        model_id="m",
        hooks=[HOOKS, "tests.integration.hooks.once"],
        placement_group_config={"bundles": [{"CPU": 1, "slot-1": 1}], "strategy": "PACK"},  # both on one node
        model_loading_config={"model_source": "/nowhere/only/a/hook/knows"},
        accelerator_config={"kind": "cpu"},
        log_engine_metrics=False,
        runtime_env={"env_vars": variables},
        deployment_config={"num_replicas": 2, "max_constructor_retry_count": 1},
    )
    serve.run(build_openai_app({"llm_configs": [config]}), name="traced", route_prefix="/traced")
    try:
        yield "traced"
    finally:
        serve.delete("traced")


def test_the_trace_of_a_running_application(running: str, tmp_path: Path) -> None:
    code, out, err = cli("trace", running)
    assert code == 0, err
    assert out.splitlines()[0].startswith("LLMServer:m, ")
    assert "(on_after_init)" in out

    code, out, err = cli("trace", running, "--json")
    assert code == 0, err
    traces = load_traces(out)
    assert set(traces) <= {"LLMServer:m", "LLMServer:m #2"}
    points = [event.point for event in traces["LLMServer:m"]]
    assert points[0] == "on_before_init"
    assert "on_after_init" in points

    (tmp_path / "saved.json").write_text(out)
    code, out, err = cli("trace", "--diff", str(tmp_path / "saved.json"), str(tmp_path / "saved.json"), "--json")
    assert code == 0, err
    assert all(row["difference_s"] == 0 for start in json.loads(out)["starts"] for row in start["rows"])


def test_two_replicas_on_one_node_run_a_hook_once(running: str) -> None:
    from serve_llm_hooks.ray import hook_trace

    traces = hook_trace(running)
    while len(traces) < 2:  # Serve chooses who answers
        traces = hook_trace(running)
    done, taken = sorted(
        (event for trace in traces.values() for event in trace if event.name == "fetch_once"),
        key=lambda event: event.outcome,
    )
    assert (done.outcome, taken.outcome) == ("ok", "replayed")
    assert done.node_id == taken.node_id
    assert taken.detail.startswith(f"done by process {done.process_id}")
    assert done.process_id != taken.process_id


def test_from_a_shell_of_ones_own(running: str, ray_cluster: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "serve_llm_hooks.cli", "trace", running, "--json"],
        env={**os.environ, "RAY_ADDRESS": ray_cluster.address},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "LLMServer:m" in load_traces(done.stdout)


def test_an_application_that_is_not_there_and_one_without_hooks(running: str) -> None:
    from ray import serve

    from serve_llm_hooks.ray import hook_trace

    code, out, err = cli("trace", "tracd")
    assert (code, out) == (2, "")
    assert "there is no application 'tracd' (did you mean 'traced'?); those that there are: 'traced'" in err

    @serve.deployment
    class Plain:
        def __call__(self) -> str:
            return "plain"

    deployed: Any = Plain  # for a checker, a decorated class is still a class
    serve.run(deployed.bind(), name="plain", route_prefix="/plain")
    try:
        with pytest.raises(HookTraceError, match="no deployment of application 'plain' says what its hooks did: Plain"):
            hook_trace("plain")
    finally:
        serve.delete("plain")


CALLBACK = """
from ray.llm._internal.common.callbacks.base import CallbackBase

class Mine(CallbackBase):
    def __init__(self, token="", **kwargs):
        super().__init__(**kwargs)

    def on_before_node_init(self): ...
"""
CONFIG = """
applications:
- import_path: serve_llm_hooks.ray:build_openai_app
  args:
    llm_configs:
    - model_id: m
      hooks: []
      accelerator_config: {kind: cpu}
      callback_config: {callback_class: "rays_style:Mine", callback_kwargs: {token: hunter2}}
"""


@pytest.mark.usefixtures("three_nodes")
def test_a_callback_that_was_written_for_ray_is_planned_by_rays_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from serve_llm_hooks.ray import LLMConfig

    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "rays_style.py").write_text(CALLBACK)
    file = tmp_path / "config.yaml"
    file.write_text(CONFIG)
    for command in ("plan", "dry-run"):
        code, out, err = cli(command, str(file))
        assert code == 0, out + err
        assert "on_before_node_init" in out
        assert "hunter2" not in out
    assert set(OUR_FIELDS) == {*LLMConfig.model_fields, "model_id"} - set(RAYS_FIELDS)
    kinds = {name: field.annotation for name, field in LLMConfig.model_fields.items()}
    takes_null = {name for name, kind in kinds.items() if kind is Any or type(None) in get_args(kind)}
    # `model_id`, which LLMConfig takes besides, stands for a `model_loading_config` that is null.
    assert set(NEVER_NULL) == kinds.keys() - takes_null - {"model_loading_config"}
    known = import_module("ray.llm._internal.serve.core.configs.accelerators").AcceleratorType
    assert set(accelerator_types()) == {"A10", *(each.value for each in known)}
