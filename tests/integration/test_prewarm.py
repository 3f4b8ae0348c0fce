"""The process that builds the engine's config on a GPU has vLLM imported by then; with a made-up GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import stub_engine

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]

# A Ray of its own: the session's has no GPUs. Each deployment is one replica whose stub engine lets Ray's own engine
# submit its config task, with all of Ray's options.
SCRIPT = """
import json, sys
from pathlib import Path
import ray
from ray import serve
from serve_llm_hooks import hook
from serve_llm_hooks.ray import LLMConfig, build_openai_app

ray.init(address="local", num_cpus=8, num_gpus=1, include_dashboard=False, logging_level="ERROR", log_to_driver=False)


@hook("on_before_init")
def other_environment(ctx):
    ctx.runtime_env["env_vars"]["OTHER"] = "1"


def config_task(name, hooks, **variables):
    says = Path(sys.argv[1]) / name
    env = {"RAYLLM_VLLM_ENGINE_CLS": sys.argv[2], "STUB_ENGINE_SAYS": str(says), "STUB_ENGINE_CONFIG_TASK": "1"}
    config = LLMConfig(
        model_id=name, hooks=hooks, model_loading_config={"model_source": "/nowhere"}, log_engine_metrics=False,
        placement_group_config={"bundles": [{"CPU": 1, "GPU": 1}]}, runtime_env={"env_vars": {**env, **variables}},
        deployment_config={"max_constructor_retry_count": 1},
    )
    serve.run(build_openai_app({"llm_configs": [config]}), name="app")
    serve.delete("app")
    [started] = [json.loads(line) for line in says.read_text().splitlines()]
    return {"is the replica": started["pid"] == started["config_task"]["pid"], **started["config_task"]}


try:
    told = {
        "as it is": config_task("a", []),
        "switched off": config_task("b", [], SERVE_LLM_HOOKS_PREWARM="0"),
        "a hook changes the environment": config_task("c", [other_environment]),
    }
    print("told", json.dumps(told))
finally:
    serve.shutdown()
    ray.shutdown()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Return what Ray's config task said of its process, in each deployment."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path_factory.mktemp("says")), stub_engine.PATH],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("told ")]
    assert lines, done.stderr[-3000:]
    found: dict[str, dict[str, object]] = json.loads(lines[0].removeprefix("told "))
    return found


def test_rays_config_task_gets_the_process_that_has_imported_vllm(told: dict[str, dict[str, object]]) -> None:
    assert told["as it is"]["is warm"] is True
    assert told["as it is"]["is the replica"] is False


@pytest.mark.parametrize("why", ["switched off", "a hook changes the environment"])
def test_otherwise_the_start_is_as_good_and_the_process_a_fresh_one(
    told: dict[str, dict[str, object]], why: str
) -> None:
    assert told[why]["is warm"] is False
