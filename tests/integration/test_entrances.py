"""Every way that Ray Serve LLM is deployed: the real builders, Serve and servers, around an engine without a model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookLoadError, HookRegistry, load_traces
from tests import stub_engine
from tests.conftest import written
from tests.deployed import chat, deploy

from .hooks.entrance import KeepsALock, KeepsALockThroughPhases

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from serve_llm_hooks import CallbackCtx, HookEvent

pytestmark = pytest.mark.ray

HOOKS = "tests.integration.hooks.entrance"
TELLING = "tests.integration.hooks.telling"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def says(tmp_path: Path) -> Path:
    """Where the engines say that they have started."""
    return tmp_path / "engines"


@pytest.fixture
def fields(says: Path) -> dict[str, Any]:
    """The fields of a config whose engine is the one without a model."""
    return {
        "model_id": "m",
        "hooks": [HOOKS],
        "model_loading_config": {"model_source": "/nowhere/only/a/hook/knows"},
        "accelerator_config": {"kind": "cpu"},
        "log_engine_metrics": False,
        "runtime_env": {"env_vars": {"RAYLLM_VLLM_ENGINE_CLS": stub_engine.PATH, "STUB_ENGINE_SAYS": str(says)}},
        "deployment_config": {"max_constructor_retry_count": 1},
    }


@pytest.fixture
def run(serve_url: str) -> Iterator[Callable[..., str]]:
    """Run an application; its address. It is deleted in the end."""
    from ray import serve

    def run(app: Any) -> str:
        serve.run(app, name="app", route_prefix="/app")
        return f"{serve_url}/app"

    try:
        yield run
    finally:
        serve.delete("app")


def started(says: Path) -> list[dict[str, Any]]:
    """The engines that have started."""
    return [json.loads(line) for line in says.read_text().splitlines()]


def traces(deployment: str, *, count: int, besides: Container[int] = ()) -> list[tuple[HookEvent, ...]]:
    """Return what ran at the start of each of a deployment's replicas, besides those of some processes."""
    from ray import serve

    handle = serve.get_deployment_handle(deployment, "app")
    found: dict[int, tuple[HookEvent, ...]] = {}

    def all_found() -> bool:
        events = handle.hook_trace.remote().result(timeout_s=300)  # Serve chooses which replica answers
        if events[0].process_id not in besides:
            found[events[0].process_id] = events
        return len(found) == count

    wait_until(all_found)
    return list(found.values())


def status(deployment: str) -> Any:
    """Return what Serve says of a deployment."""
    from ray import serve

    return serve.status().applications["app"].deployments[deployment]


def has_failed(deployment: str) -> bool:
    """Return True if Serve has given a deployment up."""
    return bool(status(deployment).status == "DEPLOY_FAILED")


def names(events: tuple[HookEvent, ...]) -> list[str]:
    """The hooks that ran."""
    return [event.name for event in events]


def touched(traces: list[tuple[HookEvent, ...]]) -> dict[int, set[str]]:
    """The nodes that each replica, by its process, has initialized."""
    return {events[0].process_id: {event.node_id for event in events if event.name == "on_node"} for events in traces}


def wait_until(what: Callable[[], object], within_s: float = 300) -> None:
    """Ask again and again: Serve tells nobody what it does."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.1)


BEFORE_ENGINE = ["before_init", "before_download", "on_node", "after_download", "after_group", "before_engine"]
ALL = [*BEFORE_ENGINE, "after_engine", "last"]


def test_data_parallel_ranks_share_a_group_and_initialize_the_nodes_of_their_own_bundles(
    run: Callable[..., str], fields: dict[str, Any], says: Path
) -> None:
    import ray

    from serve_llm_hooks.ray import build_dp_openai_app

    fields["deployment_config"] |= {"health_check_period_s": 1}
    fields["engine_kwargs"] = {"data_parallel_size": 2, "tensor_parallel_size": 2}
    # Two bundles fill a node, so that each rank has one of its own.
    fields["placement_group_config"] = {"bundles": [{"CPU": 1.5}, {"CPU": 1.5}]}
    url = run(build_dp_openai_app({"llm_config": fields}))
    assert chat(url, "m")[1]["choices"][0]["message"]["content"] == "ok"

    ranks = started(says)
    assert sorted(rank["engine_kwargs"]["data_parallel_rank"] for rank in ranks) == ["0", "1"]
    assert {rank["placement_group"] for rank in ranks} == {ranks[0]["placement_group"]}
    bundles = [set(map(int, rank["bundles"].split(","))) for rank in ranks]
    assert set.union(*bundles) == {0, 1, 2, 3}
    assert {rank["model"] for rank in ranks} == {"/set/by/a/hook"}
    assert [rank["run_init_node"] for rank in ranks] == [False, False]  # so that Ray leaves the nodes alone
    both = traces("DPServer:m", count=2)
    assert [names(events) for events in both] == [ALL, ALL]
    where = ray.util.placement_group_table()[ranks[0]["placement_group"]]["bundles_to_node_id"]
    own = {rank["pid"]: {where[int(index)] for index in rank["bundles"].split(",")} for rank in ranks}
    assert touched(both) == own
    assert all(len(nodes) == 1 for nodes in own.values())

    # Serve restarts the ranks of a group together; each begins anew, with nothing left (`before_init` sees to it).
    os.kill(ranks[0]["pid"], signal.SIGKILL)
    wait_until(lambda: len(started(says)) == 4, within_s=180)
    again = traces("DPServer:m", count=2, besides=own)
    assert [names(events) for events in again] == [ALL, ALL]
    assert set(touched(again)) == {rank["pid"] for rank in started(says)[2:]}


@pytest.mark.parametrize("at", ["replace_group", "replace_group_late"])
def test_a_data_parallel_rank_cannot_replace_the_group(
    at: str, run: Callable[..., str], fields: dict[str, Any], says: Path
) -> None:
    from ray import serve

    from serve_llm_hooks.ray import build_dp_openai_app

    fields["engine_kwargs"] = {"data_parallel_size": 2}
    fields |= {"model_id": "replaced", "hooks": [f"{HOOKS}:{at}", f"{HOOKS}:touch"]}
    with pytest.raises(RuntimeError):
        run(build_dp_openai_app({"llm_config": fields}))
    message = serve.status().applications["app"].deployments["DPServer:replaced"].message
    assert (
        "PlacementGroupError: model 'replaced': a hook replaced ctx.placement_group, but this replica's place is"
        in message
    )
    assert not says.exists()  # no node was touched


def test_prefill_and_decode_each_run_their_own_hooks(
    run: Callable[..., str], fields: dict[str, Any], says: Path
) -> None:
    from serve_llm_hooks.ray import build_pd_openai_app

    fields["engine_kwargs"] = {"kv_transfer_config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"}}
    prefill = {**fields, "hooks": [f"{HOOKS}:before_engine", f"{HOOKS}:after_engine"]}
    run(build_pd_openai_app({"prefill_config": prefill, "decode_config": fields}))
    assert len(started(says)) == 2
    (of_prefill,), (of_decode,) = traces("Prefill:m", count=1), traces("Decode:m", count=1)
    assert names(of_prefill) == ["before_engine", "after_engine"]
    assert names(of_decode) == ALL


@pytest.mark.parametrize("role", ["prefill", "decode"])
def test_prefill_and_decode_with_data_parallel_ranks(
    role: str, run: Callable[..., str], fields: dict[str, Any]
) -> None:
    from serve_llm_hooks.ray import build_pd_openai_app

    fields["engine_kwargs"] = {"kv_transfer_config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"}}
    ranks = {**fields, "engine_kwargs": {**fields["engine_kwargs"], "data_parallel_size": 2}}
    run(build_pd_openai_app({"prefill_config": fields, "decode_config": fields, f"{role}_config": ranks}))
    for name in ("prefill", "decode"):
        count = 2 if name == role else 1
        assert [names(events) for events in traces(f"{name.title()}:m", count=count)] == [ALL] * count


def test_several_models_and_several_replicas_of_one_each_with_their_hooks_once(
    run: Callable[..., str], fields: dict[str, Any], says: Path
) -> None:
    from serve_llm_hooks.ray import build_openai_app

    two = {**fields, "deployment_config": {**fields["deployment_config"], "num_replicas": 2}}
    other = {**fields, "model_id": "other", "hooks": [f"{HOOKS}:last", f"{HOOKS}:before_engine"]}
    off = {"SERVE_LLM_HOOKS_DISABLE": f"on_node {HOOKS}:last"}
    quiet = {
        **fields,
        "model_id": "quiet",
        "hooks": [f"{HOOKS}:{name}" for name in ("before_init", "on_node", "last")],
        "runtime_env": {"env_vars": {**fields["runtime_env"]["env_vars"], **off}},
    }
    url = run(build_openai_app({"llm_configs": [two, other, quiet]}))
    assert chat(url, "m")[0] == chat(url, "other")[0] == 200
    assert len(started(says)) == 4
    assert [names(events) for events in traces("LLMServer:m", count=2)] == [ALL, ALL]
    assert [names(events) for events in traces("LLMServer:other", count=1)] == [["before_engine", "last"]]
    (events,) = traces("LLMServer:quiet", count=1)
    assert [(event.name, event.outcome) for event in events] == [
        ("before_init", "ok"),
        ("on_node", "disabled"),
        ("last", "disabled"),
    ]


def test_your_own_server_class_runs_all_points_whether_or_not_it_is_one_of_rays(
    run: Callable[..., str], fields: dict[str, Any], says: Path
) -> None:
    from ray import serve

    from serve_llm_hooks.ray import build_openai_app
    from tests.integration.servers import Greeting, Plain

    models = {"greeting": Greeting, "plain": Plain}
    configs = [{**fields, "model_id": model_id, "server_cls": cls} for model_id, cls in models.items()]
    url = run(build_openai_app({"llm_configs": configs}))
    for model_id, cls in models.items():
        assert chat(url, model_id)[0] == 200
        assert [names(events) for events in traces(f"{cls.__name__}:{model_id}", count=1)] == [ALL]
    assert serve.get_deployment_handle("Greeting:greeting", "app").greet.remote().result(timeout_s=300) == "hello"
    assert {engine["model"] for engine in started(says)} == {"/set/by/a/hook"}


def test_what_hooks_keep_need_not_follow_the_config_to_the_engines_tasks(
    run: Callable[..., str], fields: dict[str, Any], says: Path
) -> None:
    """For a GPU Ray sends its config, with a run in progress, to another process; so does the engine here."""
    from serve_llm_hooks.ray import build_openai_app

    kept: list[object] = []

    def keep(ctx: CallbackCtx) -> None:
        kept.append(threading.Lock())

    ways: dict[str, dict[str, Any]] = {
        "object": {"callback": KeepsALock()},
        "phases": {"callbacks": [KeepsALockThroughPhases()]},
        "by-value": {"hooks": [HookRegistry().hook("on_before_init")(keep)]},
    }
    configs = [{**fields, "model_id": model_id, "hooks": [], **way} for model_id, way in ways.items()]
    run(build_openai_app({"llm_configs": configs}))
    assert len(started(says)) == len(ways)
    assert {names(events)[0] for way in ways for events in traces(f"LLMServer:{way}", count=1)} == {
        "on_before_init",
        "KeepsALockThroughPhases",
        "keep",
    }


NATIVE = """
applications:
  - name: app
    route_prefix: /app
    import_path: ray.serve.llm:build_openai_app
    args:
      llm_configs:
        - model_loading_config: { model_id: m, model_source: /nowhere/only/a/hook/knows }
          callback_config:
            callback_class: serve_llm_hooks.ray.HooksCallback
            callback_kwargs: { hooks: $HOOKS }
          accelerator_config: { kind: cpu }
          log_engine_metrics: false
          deployment_config: { max_constructor_retry_count: 1 }
          runtime_env:
            env_vars: { RAYLLM_VLLM_ENGINE_CLS: $ENGINE, STUB_ENGINE_SAYS: $SAYS }
"""


def native(hooks: str, says: Path) -> str:
    """Ray's own builder and config, with nothing of ours but the callback."""
    return NATIVE.replace("$HOOKS", hooks).replace("$ENGINE", stub_engine.PATH).replace("$SAYS", str(says))


def test_rays_own_yaml_with_our_callback_runs_all_hooks_up_to_the_engine(
    run: Callable[..., str], serve_url: str, says: Path
) -> None:
    names_of = [f"{HOOKS}:{name}" for name in BEFORE_ENGINE]
    deploy(native(json.dumps(names_of), says))
    assert chat(f"{serve_url}/app", "m")[0] == 200
    (engine,) = started(says)
    assert engine["model"] == "/set/by/a/hook"
    assert engine["engine_kwargs"]["seed"] == "7"
    assert engine["run_init_node"] is False


def test_rays_own_yaml_with_hooks_that_it_never_reaches_says_which_line_to_change(
    run: Callable[..., str], says: Path
) -> None:
    from ray import serve

    with pytest.raises(RuntimeError):
        deploy(native(f"[{HOOKS}]", says))
    message = serve.status().applications["app"].deployments["LLMServer:m"].message
    assert "after_engine at on_after_engine_init can never run: Ray's callback_config has no step after the" in message
    assert "import_path: serve_llm_hooks.ray:build_openai_app" in message
    assert not says.exists()


def test_rays_own_config_in_python_with_what_is_given_in_it(
    run: Callable[..., str], fields: dict[str, Any], says: Path, tmp_path: Path
) -> None:
    from ray.serve.llm import build_openai_app

    fields["runtime_env"]["env_vars"]["SERVE_LLM_HOOKS_TRACE_DIR"] = str(tmp_path / "traces")

    def given(ctx: CallbackCtx) -> None:
        ctx.model_path = "/given"

    hooks = [HookRegistry().hook("on_before_engine_init")(given), KeepsALock()]
    run(build_openai_app({"llm_configs": [native_config(fields, hooks=hooks)]}))
    (engine,) = started(says)
    assert engine["model"] == "/given"
    assert engine["run_init_node"] is False
    wait_until(lambda: list(tmp_path.glob("traces/app-LLMServer_m-*.html")))  # written last
    [saved] = tmp_path.glob("traces/*.json")
    [trace] = load_traces(saved.read_text()).values()
    assert [step.name for step in trace.steps][-2:] == ["engine", "start"]


def native_config(fields: dict[str, Any], **kwargs: Any) -> Any:
    """Ray's own config, with our callback given as it is."""
    from ray.serve.llm import LLMConfig

    from serve_llm_hooks.ray import HooksCallback
    from serve_llm_hooks.ray.internals import CallbackConfig

    rays = {name: value for name, value in fields.items() if name not in ("model_id", "hooks")}
    rays["model_loading_config"] = {**rays["model_loading_config"], "model_id": fields["model_id"]}
    return LLMConfig(**rays, callback_config=CallbackConfig(HooksCallback, kwargs))


def test_what_would_run_no_hooks_or_others_than_allowed_does_not_start(
    run: Callable[..., str], fields: dict[str, Any], says: Path, tmp_path: Path
) -> None:
    """What counts is the replica: its registry is empty, and its environment is not the driver's."""
    from ray.serve.llm import build_openai_app

    from serve_llm_hooks.ray import LLMConfig

    of_the_replica = {"SERVE_LLM_HOOKS_ALLOW": f"{HOOKS} my_company.*", "TELL_TALE": str(tmp_path / "imported")}
    not_allowed = {
        **fields,
        "model_id": "not-allowed",
        "hooks": [TELLING],
        "runtime_env": {"env_vars": {**fields["runtime_env"]["env_vars"], **of_the_replica}},
    }
    none_named = native_config({**fields, "model_id": "none-named"})
    says_why = {
        "LLMServer:not-allowed": f"{TELLING!r} in hooks=[...] may not run in this process: SERVE_LLM_HOOKS_ALLOW="
        f"'{HOOKS} my_company.*', and no pattern in it matches the module",
        "LLMServer:none-named": "Write callback_kwargs: {hooks: [my_company.llm_hooks]}, or {hooks: []} for none.",
    }
    with pytest.raises(RuntimeError):
        run(build_openai_app({"llm_configs": [LLMConfig(**not_allowed), none_named]}))
    for name, why in says_why.items():
        wait_until(partial(has_failed, name))
        assert why in status(name).message
    assert not says.exists()
    assert not (tmp_path / "imported").exists()


def test_our_config_under_rays_own_data_parallel_builder_says_which_builder_to_use(
    run: Callable[..., str], fields: dict[str, Any]
) -> None:
    from ray import serve
    from ray.serve.llm import build_dp_openai_app

    from serve_llm_hooks.ray import LLMConfig

    fields["engine_kwargs"] = {"data_parallel_size": 2}
    with pytest.raises(RuntimeError):
        run(build_dp_openai_app({"llm_config": LLMConfig(**fields)}))
    message = serve.status().applications["app"].deployments["DPServer:m"].message
    assert "after_engine at on_after_engine_init can never run" in message
    assert "build_dp_openai_app" in message


def test_a_class_that_is_given_to_rays_builder_past_the_config_is_hooked_or_says_what_is_out_of_reach(
    run: Callable[..., str], fields: dict[str, Any]
) -> None:
    from ray.serve.llm import build_llm_deployment

    from serve_llm_hooks.ray import LLMConfig, hooked_server
    from tests.integration.servers import Greeting

    run(build_llm_deployment(LLMConfig(**fields), deployment_cls=hooked_server(Greeting)))
    assert [names(events) for events in traces("Greeting:m", count=1)] == [ALL]
    with pytest.raises(RuntimeError):
        run(build_llm_deployment(LLMConfig(**fields | {"model_id": "late"}), deployment_cls=Greeting))
    assert "after_engine at on_after_engine_init can never run" in status("Greeting:late").message


# -- scripts ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import json, os, threading
from serve_llm_hooks import hook
from serve_llm_hooks.ray import build_openai_app

client = None

@hook("on_before_init")
def connect(ctx):
    global client
    client = threading.Lock()  # which could not follow the config to another process

@hook("on_after_init")
def say(ctx):
    assert not client.locked()

app = build_openai_app({"llm_configs": [json.loads(os.environ["FIELDS"])]})

if __name__ == "__main__":
    from ray import serve

    serve.run(app, name="app", route_prefix="/app")
"""
SERVE_RUN = ["-c", "from ray.serve.scripts import cli; cli()", "run", "app:app", "--non-blocking", "--name=app"]


@pytest.mark.parametrize("entrance", ["the script itself", "serve run app:app"])
def test_with_hooks_left_out_a_script_runs_its_hooks_and_its_module_says_that_it_does_not(
    entrance: str, run: Callable[..., str], fields: dict[str, Any], says: Path, tmp_path: Path, ray_cluster: Any
) -> None:
    from ray import serve

    (tmp_path / "app.py").write_text(SCRIPT)
    of_the_script = entrance == "the script itself"
    del fields["hooks"]
    done = subprocess.run(
        [sys.executable, *([str(tmp_path / "app.py")] if of_the_script else [*SERVE_RUN, f"--app-dir={tmp_path}"])],
        env={**os.environ, "RAY_ADDRESS": ray_cluster.address, "FIELDS": json.dumps(fields)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(started(says)) == 1
    events = serve.get_deployment_handle("LLMServer:m", "app").hook_trace.remote().result(timeout_s=300)
    assert names(events) == (["connect", "say"] if of_the_script else [])
    told = "running script (__main__) run, and not app:connect, app:say. To run them, add hooks=['app']"
    assert done.stderr.count(told) == (0 if of_the_script else 1)


# -- SGLang -----------------------------------------------------------------------------------------------------------

SGLANG = """
import json, os

class RayEngine:
    def __init__(self, **kwargs):
        if text := os.environ.get("STUB_ENGINE_FAILS"):
            raise RuntimeError(text)
        with open(os.environ["STUB_ENGINE_SAYS"], "a") as file:
            file.write(json.dumps(kwargs) + "\\n")

    async def check_health(self):
        pass
"""


@pytest.fixture
def sglang(fields: dict[str, Any], tmp_path: Path, node_with_a_gpu: None) -> dict[str, Any]:
    """The fields of a config for SGLang, which itself needs a GPU: its engine's module is replaced where Ray imports
    it."""
    package = tmp_path / "site" / "sglang" / "srt" / "ray"
    package.mkdir(parents=True)
    (package / "engine.py").write_text(SGLANG)
    fields |= {
        "server_cls": "ray.llm._internal.serve.engines.sglang.SGLangServer",
        "engine_kwargs": {"model_path": "/nowhere", "tp_size": 1, "mem_fraction_static": 0.5},
    }
    fields["runtime_env"]["env_vars"]["PYTHONPATH"] = str(tmp_path / "site")
    return fields


@pytest.fixture
def node_with_a_gpu(ray_cluster: Any) -> Iterator[None]:
    """A node that says that it has a GPU, for Ray's SGLang server asks for one."""
    import ray

    waiting = [row for row in ray.util.placement_group_table().values() if row["state"] in ("PENDING", "RESCHEDULING")]
    assert waiting == [], "a placement group that another test has left would take the GPU, and Serve wait for ever"
    node = ray_cluster.add_node(num_cpus=4, num_gpus=1)
    try:
        yield
    finally:
        ray_cluster.remove_node(node)


def test_sglang_whose_server_knows_no_callbacks_runs_all_points(
    run: Callable[..., str], sglang: dict[str, Any], says: Path
) -> None:
    from serve_llm_hooks.ray import build_openai_app

    run(build_openai_app({"llm_configs": [sglang]}))
    assert started(says) == [{"model_path": "/set/by/a/hook", "tp_size": 1, "mem_fraction_static": 0.5, "seed": 7}]
    (events,) = traces("SGLangServer:m", count=1)
    assert names(events) == ALL


def test_a_server_based_on_a_hooked_sglang_runs_them_once(
    run: Callable[..., str], sglang: dict[str, Any], says: Path
) -> None:
    from ray.llm._internal.serve.engines.sglang import SGLangServer

    from serve_llm_hooks.ray import build_openai_app, hooked_server

    @hooked_server
    class Hooked(SGLangServer): ...

    class Mine(Hooked):
        async def __init__(self, llm_config: Any) -> None:  # type: ignore[misc]  # Serve awaits it
            parent: Any = super()
            await parent.__init__(llm_config)

    run(build_openai_app({"llm_configs": [sglang | {"server_cls": Mine}]}))
    assert len(started(says)) == 1
    (events,) = traces("Mine:m", count=1)
    assert names(events) == ALL


def test_sglang_whose_engine_does_not_start_runs_on_failure(
    run: Callable[..., str], sglang: dict[str, Any], says: Path, tmp_path: Path
) -> None:
    from serve_llm_hooks.ray import build_openai_app

    failure = tmp_path / "failure"
    sglang["runtime_env"]["env_vars"] |= {"STUB_ENGINE_FAILS": "out of memory", "FAILURE_SAYS": str(failure)}
    with pytest.raises(RuntimeError):
        run(build_openai_app({"llm_configs": [sglang]}))
    assert failure.read_text() == "m: out of memory"
    assert "RuntimeError: out of memory" in status("SGLangServer:m").message
    assert not says.exists()


WITHOUT_VLLM = """
import sys

from serve_llm_hooks.ray import LLMConfig
from serve_llm_hooks.ray.sglang import SGLangCluster

config = LLMConfig(
    model_id="m",
    hooks=[],
    server_cls="ray.llm._internal.serve.engines.sglang.SGLangServer",
    model_loading_config={"model_source": "/models/m"},
    engine_kwargs={"tp_size": 2, "mem_fraction_static": 0.5},
    # Ray's SGLang server wants its placement so, and Ray's vLLM config refuses it.
    placement_group_config={"placement_group_bundles": [{"CPU": 1}] * 2, "placement_group_strategy": "SPREAD"},
)
defaults = SGLangCluster().defaults(config)
print(defaults.source_id, defaults.engine_workers, "vllm" in sys.modules)
"""
PROTOCOL = """
from pydantic import BaseModel

def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    return type(name, (BaseModel,), {})
"""


def test_sglang_needs_no_vllm(three_nodes: list[str], ray_cluster: Any, tmp_path: Path) -> None:
    protocol = tmp_path / "sglang" / "srt" / "entrypoints" / "openai" / "protocol.py"
    protocol.parent.mkdir(parents=True)
    protocol.write_text(PROTOCOL)
    (tmp_path / "vllm.py").write_text("raise ModuleNotFoundError('no vllm', name='vllm')")
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_VLLM],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RAY_ADDRESS": ray_cluster.address},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["/models/m 2 False"], done.stderr[-3000:]


def test_a_class_that_starts_nothing_is_no_server() -> None:
    from serve_llm_hooks.ray import hooked_server

    with pytest.raises(TypeError, match=r"hooked_server\(\) takes a server class with `async start\(\)`"):
        hooked_server(dict)


def test_a_server_class_that_is_assigned_later_is_hooked_by_the_builder_or_refused(
    fields: dict[str, Any], three_nodes: list[str]
) -> None:
    import cloudpickle
    from ray.serve.llm.deployment import LLMServer

    from serve_llm_hooks.ray import LLMConfig, build_openai_app, hooked_server

    class Mine(LLMServer):
        pass

    config = LLMConfig(**fields)
    config.server_cls = Mine
    with pytest.raises(HookLoadError, match=r"model 'm': server_cls was set to .*Mine.* so no hook would run"):
        cloudpickle.dumps(config)
    build_openai_app({"llm_configs": [config]})
    assert config.server_cls is hooked_server(Mine)
    cloudpickle.dumps(config)


DIRECT = """
import asyncio

import serve_llm_hooks.ray as ours
from serve_llm_hooks.ray.hooked import is_hooked

kv = {"kv_transfer_config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"}}
fields = {"model_id": "m", "hooks": HOOKS, "accelerator_config": {"kind": "cpu"}, "engine_kwargs": kv}
for name, args in {
    "build_openai_app": {"llm_configs": [fields]},
    "build_dp_openai_app": {"llm_config": fields},
    "build_pd_openai_app": {"prefill_config": fields, "decode_config": fields},
}.items():
    app = getattr(ours, name)(args)
    router = app._ingress_request_router
    server = app._bound_deployment
    print(name, is_hooked(server.func_or_class), router._bound_deployment.init_kwargs["server"] is app)
    if name == "build_openai_app":
        plain = server


async def start():
    # As Serve makes it; without a proxy of its own, which direct streaming needs to be asked anything.
    server = plain.func_or_class.__new__(plain.func_or_class)
    await server.__init__(*plain.init_args, **plain.init_kwargs)
    return await server.hook_trace()


print("ran", [event.name for event in asyncio.run(start())])
"""


def test_direct_streaming_whose_ingress_is_the_server_itself(three_nodes: list[str], ray_cluster: Any) -> None:
    ran = ["before_engine", "after_engine", "last"]
    streaming = {
        "RAY_SERVE_LLM_ENABLE_DIRECT_STREAMING": "1",
        "RAY_ADDRESS": ray_cluster.address,
        "RAYLLM_VLLM_ENGINE_CLS": stub_engine.PATH,
    }
    done = subprocess.run(
        [sys.executable, "-c", DIRECT.replace("HOOKS", str([f"{HOOKS}:{name}" for name in ran]))],
        env={**os.environ, **streaming},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    builders = ["build_openai_app", "build_dp_openai_app", "build_pd_openai_app"]
    said = [line for line in done.stdout.splitlines() if line.startswith(("build_", "ran "))]
    assert said == [*(f"{name} True True" for name in builders), f"ran {ran}"], done.stderr[-3000:]


# -- what the builders see at once ------------------------------------------------------------------------------------


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Our warnings, among all that Ray's builders log."""
    return [r.getMessage() for r in caplog.records if r.name == "serve_llm_hooks" and r.levelname == "WARNING"]


@pytest.mark.fault(
    "the replica's own placement group, which Serve makes before any of our code runs, can never be scheduled",
    promise="a warning when the app is built: what is asked, what there is",
)
@pytest.mark.parametrize("kind", ["plain", "dp", "pd", "sglang"])
def test_a_replica_that_can_never_start_is_told_when_the_app_is_built(
    kind: str, fields: dict[str, Any], three_nodes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    import serve_llm_hooks.ray as ours

    sglang = "ray.llm._internal.serve.engines.sglang.SGLangServer"
    kv_transfer = {"kv_transfer_config": {"kv_connector": "NixlConnector", "kv_role": "kv_both"}}
    kinds: dict[str, tuple[Callable[..., Any], list[str], list[str], dict[str, Any]]] = {
        "plain": (ours.build_openai_app, ["llm_configs"], ["LLMServer:m"], {}),
        "dp": (ours.build_dp_openai_app, ["llm_config"], ["DPServer:m"], {"engine_kwargs": {"data_parallel_size": 5}}),
        "pd": (
            ours.build_pd_openai_app,
            ["prefill_config", "decode_config"],
            ["Decode:m", "Prefill:m"],
            {"engine_kwargs": kv_transfer},
        ),
        "sglang": (ours.build_openai_app, ["llm_configs"], ["SGLangServer:m"], {"server_cls": sglang}),
    }
    build, keys, deployments, more = kinds[kind]

    def config(cpus: float) -> Any:
        # Ray's SGLang server has a name of its own for it.
        bundles = {"placement_group_bundles" if kind == "sglang" else "bundles": [{"CPU": cpus}]}
        one = {**fields, **more, "placement_group_config": bundles}
        return {key: [one] if key == "llm_configs" else one for key in keys}

    build(config(1))
    assert warnings_of(caplog) == []
    # 5 ranks of 4 CPUs (and of one for each replica itself) do not fit on 3 nodes of 4, though each rank would.
    build(config(2.9 if kind == "dp" else 1000))
    messages = warnings_of(caplog)
    assert [message.split("'")[1] for message in messages] == deployments
    for message in messages:
        assert "': no replica can start on this cluster, and Serve will wait for ever: asked for PACK of {" in message
        assert f"{written(three_nodes[1])}: {{" in message
        assert "'CPU': 4.0" in message


def test_a_server_class_that_rays_builder_does_not_use_is_told(
    fields: dict[str, Any], three_nodes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    from ray.serve.llm.deployment import LLMServer

    from serve_llm_hooks.ray import build_dp_openai_app

    class Mine(LLMServer):
        pass

    build_dp_openai_app({"llm_config": {**fields, "server_cls": Mine, "engine_kwargs": {"data_parallel_size": 1}}})
    (message,) = warnings_of(caplog)
    assert message.startswith("model 'm': server_cls='Mine' of llm_config is not used: Ray's builder for this kind of")


@pytest.mark.parametrize("kind", ["application", "ray_actor_options"])
def test_variables_that_the_configs_own_replace_are_told(
    kind: str, fields: dict[str, Any], three_nodes: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    import ray

    from serve_llm_hooks.ray import build_dp_openai_app, build_openai_app

    env = {"env_vars": {"SERVE_LLM_HOOKS_ALLOW": "*", "SERVE_LLM_HOOKS_DISABLE": "f", "OTHER": "1"}}
    own = fields["runtime_env"]["env_vars"]
    with pytest.MonkeyPatch.context() as patch:
        if kind == "application":
            patch.setattr(type(ray.get_runtime_context()), "runtime_env", env)
        else:
            fields["deployment_config"]["ray_actor_options"] = {"runtime_env": env}
        own["SERVE_LLM_HOOKS_DISABLE"] = ""
        app = build_openai_app({"llm_configs": [fields]})
        (message,) = warnings_of(caplog)
        assert message.startswith("model 'm': SERVE_LLM_HOOKS_ALLOW will not be set in its replicas and on its nodes: ")
        build_dp_openai_app({"llm_config": {**fields, "engine_kwargs": {"data_parallel_size": 1}}})
        assert warnings_of(caplog) == [message, message]
        # It is what Ray does.
        (servers,) = app._bound_deployment.init_kwargs["llm_deployments"].values()
        assert servers._bound_deployment.ray_actor_options["runtime_env"]["env_vars"] == own
        caplog.clear()
        own["SERVE_LLM_HOOKS_ALLOW"] = "*"
        build_openai_app({"llm_configs": [fields]})
        assert warnings_of(caplog) == []


def test_what_fits_exactly_is_no_cause_for_a_warning(ray_cluster: Any, three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray.capacity import never_fits

    tenths = [{"CPU": 0.1}] * 120  # on three nodes of 4 CPUs; as floats, a little more than 12
    assert sum(bundle["CPU"] for bundle in tenths) > 12 or sum(bundle["CPU"] for bundle in [{"CPU": 0.3}] * 40) > 12
    assert not never_fits(tenths, "PACK")
    assert not never_fits([{"CPU": 0.3}] * 40, "PACK")
    assert not never_fits([{"CPU": 4}] * 3, "STRICT_SPREAD")


def test_what_is_no_dict_and_no_model_is_no_argument_of_a_builder(three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import build_openai_app

    with pytest.raises(TypeError, match=r"a builder takes a dict, as in \{'llm_configs': \[...\]\}"):
        build_openai_app([])


def test_a_config_file_that_is_not_there(three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import build_dp_openai_app, build_pd_openai_app

    with pytest.raises(FileNotFoundError, match=r"llm_config names the file 'no\.yaml', which is not there"):
        build_dp_openai_app({"llm_config": "no.yaml"})
    with pytest.raises(FileNotFoundError, match=r"decode_config names the file 'no\.yaml', which is not there"):
        build_pd_openai_app({"prefill_config": {"model_id": "m", "hooks": []}, "decode_config": "no.yaml"})
