"""A real deployment: `serve run`-style YAML, Ray Serve, a real vLLM engine on the CPU, asked over HTTP."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from benchmarks.slow_s3 import slow_s3
from serve_llm_hooks import Trace, load_traces
from tests.deployed import chat, check, deploy, good_application, look
from tests.engine_models import make_adapter, make_tiny_llama
from tests.file_server import file_server

from .hooks.engine_processes import ARCHITECTURE

pytestmark = [pytest.mark.ray, pytest.mark.engine]

HOOKS = "tests.integration.hooks.engine_processes"
CLASSES = "tests.integration.hooks.own_classes"
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


def core_and_start(events: Trace) -> tuple[float, float]:
    """Return when the process of the engine's core began, and the start, in seconds since the epoch."""
    (core,) = {event.process_id for event in events if event.process == "core"}
    (start,) = (step for step in events.steps if step.name == "start")
    return psutil.Process(core).create_time(), start.start_s


OWN = """
applications:
  - name: own
    route_prefix: /own
    import_path: serve_llm_hooks.ray:build_openai_app
    args:
      llm_configs:
        - model_id: own
          model_loading_config: { model_source: $MODEL }
          hooks:
            - $HOOKS:choose
            - { hook: "$RECIPES:ExportEnv", kwargs: { OWN_VARIABLE: everywhere } }
            - { hook: "$RECIPES:CheckNode", kwargs: { min_free_gib: 0.01, min_memory_gib: 0.01, min_cpus: 1 } }
            - { hook: "$RECIPES:RegisterModel", kwargs: { arch: $ARCHITECTURE, path: "$CLASSES:OwnForCausalLM" } }
            - $HOOKS:register_parser
            - { hook: "$RECIPES:RegisterToolParser", kwargs: { path: "$CLASSES:OwnTools", use: false } }
            - hook: $RECIPES:WarmUp
              kwargs:
                requests: [{ messages: Hello!, max_tokens: 2, logprobs: true }, { prompt: Hello, max_tokens: 2 }]
            - { hook: "$RECIPES:FetchModel", kwargs: { src: $STORE, dest: $DEST } }
            - { hook: "$RECIPES:PreloadLoRA", kwargs: { adapters: [one, two] } }
          lora_config: { dynamic_lora_loading_path: "s3://adapters/own" }
          accelerator_config: { kind: cpu }
          engine_kwargs:
            max_model_len: 256
            dtype: bfloat16
            max_num_seqs: 2
            enforce_eager: true
            tensor_parallel_size: 2
            enable_lora: true
            max_lora_rank: 8
            max_cpu_loras: 2
          placement_group_config: { bundles: [{ CPU: 1 }, { CPU: 1 }], strategy: STRICT_PACK }
          deployment_config: { max_constructor_retry_count: 1 }
          log_engine_metrics: false
          runtime_env:
            env_vars:
              VLLM_CPU_KVCACHE_SPACE: "1"
              VLLM_CPU_OMP_THREADS_BIND: nobind
              OMP_NUM_THREADS: "1"
              AWS_ENDPOINT_URL_S3: $URL
              AWS_ACCESS_KEY_ID: test
              AWS_SECRET_ACCESS_KEY: test
              AWS_DEFAULT_REGION: us-east-1
"""


@pytest.fixture(scope="module")
def own_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, of an architecture that vLLM does not know."""
    folder = tmp_path_factory.mktemp("own") / "own"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [ARCHITECTURE]}))
    return folder


def test_own_code_in_every_process_of_a_real_engine(serve_url: str, own_model: Path, tmp_path: Path) -> None:
    """The weights are where ``FetchModel`` has brought them; the store of the adapters is gone before a request."""
    from ray import serve

    no_weights = shutil.copytree(own_model, tmp_path / "no-weights", ignore=shutil.ignore_patterns("*.safetensors"))
    values = {
        "$MODEL": no_weights,
        "$STORE": own_model,
        "$DEST": tmp_path / "fetched",
        "$HOOKS": HOOKS,
        "$RECIPES": "serve_llm_hooks.recipes",
        "$CLASSES": CLASSES,
        "$ARCHITECTURE": ARCHITECTURE,
    }
    adapter = make_adapter(tmp_path / "adapter")
    try:
        with file_server() as store:
            store.files = {
                f"/adapters/own/{name}/{file.name}": file.read_bytes()
                for name in ("one", "two")
                for file in adapter.iterdir()
            }
            application = OWN.replace("$URL", store.url)
            for name, value in values.items():
                application = application.replace(name, str(value))
            deploy(application)
        status, answer = chat(f"{serve_url}/own", "own", max_tokens=5)
        with_adapters = [chat(f"{serve_url}/own", f"own:{name}", max_tokens=5) for name in ("one", "two")]
        events = serve.get_deployment_handle("LLMServer:own", "own").hook_trace.remote().result(timeout_s=300)
        core_s, start_s = core_and_start(events)
    finally:
        serve.delete("own")
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "ours"
    assert [(status, answer["model"]) for status, answer in with_adapters] == [(200, "own:one"), (200, "own:two")]
    assert core_s > start_s  # begun anew: a hook has set a variable that its libraries may have read when it began
    before, imports = events.steps[:2], events.steps[2]
    assert [step.name for step in (*before, imports)] == ["process", "serve", "imports"]
    assert [step.end_s for step in before] == [before[1].start_s, imports.start_s]
    in_processes = [event for event in events if event.process]
    assert [(event.hook.rpartition(":")[2].split(".")[0], event.process, event.outcome) for event in in_processes] == [
        (name, process, "ok")
        for process in ("frontend", "core", "worker-0", "worker-1")
        for name in ("ExportEnv", "RegisterModel", "register_parser", "RegisterToolParser")
    ]
    assert len({event.process_id for event in in_processes}) == 4
    assert [(event.point, event.outcome) for event in events if "WarmUp" in event.hook] == [
        ("on_after_engine_init", "ok")
    ]


LATE = """
applications:
  - name: late
    route_prefix: /late
    import_path: serve_llm_hooks.ray:build_openai_app
    args:
      llm_configs:
        - model_id: late
          model_loading_config: { model_source: "s3://models/m" }
          weights: late
          hooks: ["$HOOKS:core_begins", "$HOOKS:weights_are_there"]
          accelerator_config: { kind: cpu }
          engine_kwargs: { max_model_len: 256, dtype: bfloat16, max_num_seqs: 2, enforce_eager: true }
          deployment_config: { max_constructor_retry_count: 1 }
          log_engine_metrics: false
          runtime_env:
            env_vars:
              VLLM_CPU_KVCACHE_SPACE: "1"
              HF_HOME: $HOME
              AWS_ENDPOINT_URL_S3: $URL
              AWS_ACCESS_KEY_ID: test
              AWS_SECRET_ACCESS_KEY: test
              AWS_DEFAULT_REGION: us-east-1
"""


def test_weights_come_while_a_real_engine_begins(serve_url: str, tiny_model: Path, tmp_path: Path) -> None:
    """The server gives no weights before the engine's core has begun."""
    from ray import serve

    try:
        with slow_s3(tiny_model, begins=threading.Event()) as url:
            deploy(LATE.replace("$HOOKS", HOOKS).replace("$HOME", str(tmp_path)).replace("$URL", url))
        status, _ = chat(f"{serve_url}/late", "late", max_tokens=5)
        events = serve.get_deployment_handle("LLMServer:late", "late").hook_trace.remote().result(timeout_s=300)
        core_s, start_s = core_and_start(events)
    finally:
        serve.delete("late")
    assert status == 200
    assert core_s < start_s  # it has imported vLLM beside the replica
    assert [(event.name, event.process, event.outcome) for event in events] == [
        ("core_begins", "core", "ok"),
        ("weights_are_there", "worker-0", "ok"),
    ]


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


def test_the_demo(tmp_path: Path) -> None:
    """`make demo`, in a process of its own, with a Ray of its own; what ran there is what `plan` says of its YAML."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "HF_"))}
    environment |= {"SERVE_LLM_HOOKS_TRACE_DIR": str(tmp_path), "SMOLLM2_FOLDER": str(tmp_path)}
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
    [page] = tmp_path.glob("*.html")
    _, _, timeline = done.stdout.partition("The start as a timeline:")
    assert f"the same as a page: {page}" in timeline
    command = [sys.executable, "-m", "serve_llm_hooks.cli", "plan", "demo.yaml", "--json"]
    plan = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=EXAMPLES)
    [model] = json.loads(plan.stdout)["models"]
    [trace] = load_traces(page.read_text(encoding="utf-8")).values()
    planned = [(hook["point"], hook["hook"]) for hook in model["hooks"]]
    assert planned == [(event.point, event.hook.partition("(")[0]) for event in trace]
    for _, hook in planned:
        assert hook.rpartition(":")[2].partition(".on_")[0] in timeline
