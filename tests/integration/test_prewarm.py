"""The process that builds the engine's config on a GPU has vLLM imported by then; with made-up GPUs."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from serve_llm_hooks.ray import early_core, prewarm, quick_imports, telemetry
from tests.conftest import require_engine

from .on_gpus import LIMIT_S

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]


def python(*arguments: str, timeout_s: float = 900) -> str:
    """Run Python in a process of its own; return what it prints."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-1000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What was seen on a Ray with made-up GPUs."""
    require_engine()
    said = python("-m", "tests.integration.on_gpus", str(tmp_path_factory.mktemp("says")))
    (line,) = [line for line in said.splitlines() if line.startswith("told ")]
    found: dict[str, Any] = json.loads(line.removeprefix("told "))
    return found


@pytest.mark.parametrize(
    "how",
    ["as it is", "half a GPU", "two nodes", "HooksCallback", "a server of one's own", "code that is shipped"],
)
def test_rays_config_task_gets_the_process_that_has_imported_vllm(told: dict[str, Any], how: str) -> None:
    (started,) = told["served"][how]
    assert started["is warm"] is True
    assert started["is the replica"] is False


def test_so_does_that_of_each_data_parallel_rank(told: dict[str, Any]) -> None:
    assert [rank["is warm"] for rank in told["served"]["data parallel"]] == [True, True]


@pytest.mark.parametrize("why", ["switched off", "a hook changes the environment"])
def test_otherwise_the_start_is_as_good_and_the_process_a_fresh_one(told: dict[str, Any], why: str) -> None:
    (started,) = told["served"][why]
    assert started["is warm"] is False


@pytest.mark.parametrize("how", ["as it is", "a server of one's own", "switched off"])
def test_the_collector_runs_as_before_and_not_over_what_was_imported(told: dict[str, Any], how: str) -> None:
    (started,) = told["served"][how]
    assert started["collector"] == [list(gc.get_threshold()), True]


def test_its_process_is_kept_for_the_config_task_where_ray_ends_idle_ones(told: dict[str, Any]) -> None:
    seen = told["alone"]["it ends"]
    assert seen["Ray ends idle processes here"]
    assert seen["it is given the next task"]
    assert seen["lines"] == []
    assert seen["another start decides"] == {"env_vars": {}}  # in the same process: it is used up, and nothing is added


def test_rays_telemetry_actor_is_asked_for_and_not_waited_for(told: dict[str, Any]) -> None:
    assert told["telemetry"]


@pytest.mark.parametrize(
    ("given", "fits"),
    [
        (None, True),
        ({"env_vars": {"A": "1"}}, True),
        ({"env_vars": {"A": "2"}}, False),
        ({"env_vars": {"B": "1"}}, False),
        ({"pip": ["some"], "env_vars": {}}, True),
        ({"pip": ["some", "other"]}, False),
        ({"working_dir": "s3://bucket/code.zip"}, True),
        ({"working_dir": "s3://bucket/other.zip"}, False),
        ({"py_modules": ["s3://bucket/more.zip"]}, False),
    ],
)
def test_a_process_is_given_on_only_where_the_engine_s_environment_adds_nothing_to_the_replica_s(
    given: dict[str, Any] | None, fits: bool
) -> None:
    require_engine()
    from ray.runtime_env import RuntimeEnv

    begun = prewarm.Prewarm.__new__(prewarm.Prewarm)
    own = RuntimeEnv(pip=["some"], working_dir="s3://bucket/code.zip", env_vars={"A": "1"})
    begun._env_vars = own.pop("env_vars")
    begun._replicas_own = dict(own)
    assert begun._fits(given) is fits


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("it hangs", "model 'm': a prewarm takes too long, and is ended"),
        ("it fails", "model 'm': the prewarm failed: "),
        ("its process dies", "model 'm': the prewarm failed: "),
    ],
)
def test_a_prewarm_that_goes_wrong_costs_little_time_and_a_line(told: dict[str, Any], what: str, line: str) -> None:
    seen = told["alone"][what]
    assert [said.startswith(line) for said in seen["lines"]] == [True]
    assert seen["seconds"] < LIMIT_S + prewarm._OTHERS_S + 10
    assert seen["it is gone"] or what == "it fails"  # then its process is as good as any


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("a hook changes the environment while it works", "a hook changed runtime_env or the group"),
        ("a hook changes the environment after it", "a hook changed runtime_env or the group"),
        ("the replica has another environment", "the engine's runtime_env is not the replica's"),
    ],
)
def test_a_prewarm_of_no_use_is_thrown_away_with_its_process(told: dict[str, Any], what: str, line: str) -> None:
    seen = told["alone"][what]
    assert seen["lines"] == [f"model 'm': {line}; the prewarm is not used"]
    assert seen["decided"] == {"env_vars": {"OTHER": "1"}}  # as it was given
    assert seen["seconds"] < 5
    assert seen["it is gone"]


def test_it_is_not_kept_for_ever_where_no_start_asks_for_it(told: dict[str, Any]) -> None:
    seen = told["alone"]["no start asks for it"]
    assert seen["it is gone"]
    assert seen["lines"] == ["no start has asked for it; the prewarm is not used"]


def test_there_is_one_for_each_node_where_the_config_task_may_land(told: dict[str, Any]) -> None:
    assert told["places"] == {"two nodes": [0, 1], "begins here": True, "shared": [True], "no GPU": []}


SERVERS = {
    "ours": "serve_llm_hooks.ray:LLMServer",
    "a subclass of Ray's": "tests.integration.servers:Greeting",
    "Ray's for data-parallel ranks": "ray.llm._internal.serve.serving_patterns.data_parallel.dp_server:DPServer",
    "SGLang's": "ray.llm._internal.serve.engines.sglang:SGLangServer",
}
SEND = """
import json, sys
import ray.cloudpickle
from pydoc import locate
from serve_llm_hooks.ray import LLMConfig

for name, path in json.loads(sys.argv[2]).items():
    config = LLMConfig(model_id="m", hooks=[], server_cls=locate(path.replace(":", ".")))
    with open(f"{sys.argv[1]}/{name}", "wb") as file:
        file.write(ray.cloudpickle.dumps(config.server_cls) + ray.cloudpickle.dumps(config))
"""
RECEIVE = """
import os, pickle, sys
from serve_llm_hooks.ray import prewarm

def begin():
    print("it begins", "too late" if "ray.serve.llm" in sys.modules else "early", flush=True)
    os._exit(0)

prewarm.begin = begin
with open(sys.argv[1], "rb") as file:
    for _ in ("the class", "the config"):
        pickle.load(file)
print("it does not begin")
"""


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Server classes and their configs, pickled as Serve sends them."""
    require_engine()
    folder = tmp_path_factory.mktemp("sent")
    python("-c", SEND, str(folder), json.dumps(SERVERS))
    return folder


@pytest.mark.parametrize("server", [name for name in SERVERS if name != "SGLang's"])
def test_it_begins_where_serve_unpickles_the_server_before_ray_serve_llm_is_imported(sent: Path, server: str) -> None:
    assert python("-c", RECEIVE, str(sent / server)).splitlines()[-1] == "it begins early"


def test_it_does_not_begin_for_sglang_although_the_config_is_ours_too(sent: Path) -> None:
    assert python("-c", RECEIVE, str(sent / "SGLang's")).splitlines()[-1] == "it does not begin"


def test_a_server_that_starts_its_engine_itself_has_no_use_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    require_engine()
    from serve_llm_hooks.ray import hooked_server

    class Server:
        def __init__(self, llm_config: Any) -> None: ...
        def start(self) -> None: ...

    thrown: list[str] = []
    monkeypatch.setattr(prewarm, "throw_away", thrown.append)
    monkeypatch.setattr(telemetry, "ask_for_actor", lambda: pytest.fail("Ray makes no such actor for it"))
    server: Any = hooked_server(Server)
    with pytest.raises(AttributeError):
        next(server.__new__(server).__init__(None).__await__())  # it begins with that
    assert len(thrown) == 1


def test_a_start_that_fails_ends_what_was_begun_early(monkeypatch: pytest.MonkeyPatch) -> None:
    require_engine()
    from serve_llm_hooks.ray import hooked_start

    thrown: list[str] = []
    for what in (prewarm, early_core):
        monkeypatch.setattr(what, "throw_away", thrown.append)
    monkeypatch.setattr(telemetry, "ask_for_actor", lambda: None)
    monkeypatch.setattr(
        hooked_start, "RayCluster", lambda: None
    )  # it connects to a Ray, and starts one if there is none

    async def start() -> None:
        async with hooked_start.around_start(SimpleNamespace(_llm_config=None)):
            pytest.fail("it has no config")

    with pytest.raises(AttributeError):
        asyncio.run(start())
    assert thrown == ["the start is over"] * 2


def test_pythons_garbage_collector_is_as_before_in_a_start_with_hookscallback_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_engine()
    from serve_llm_hooks.ray import HooksCallback

    monkeypatch.setattr(telemetry, "ask_for_actor", lambda: None)  # in a thread: it would start a Ray of its own
    before = gc.get_threshold()
    quick_imports.begin()
    try:
        assert gc.get_threshold() != before
        callback = HooksCallback.__new__(HooksCallback)  # its start begins with that, whatever its config
        with pytest.raises(AttributeError):
            asyncio.run(callback.on_before_node_init())
        assert gc.get_threshold() == before
    finally:
        quick_imports.end()
        gc.unfreeze()


@pytest.mark.usefixtures("three_nodes")
def test_a_driver_is_no_replica_and_hears_no_warning_of_rays(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert prewarm.replica_name() == ""
        assert not prewarm.starts_engine()
    assert not caplog.records


def test_what_ray_does_not_tell_of_this_process_keeps_nobody_from_importing(monkeypatch: pytest.MonkeyPatch) -> None:
    require_engine()
    import ray

    def fails() -> None:
        raise RuntimeError("Ray is shutting down")

    monkeypatch.setattr(ray, "is_initialized", fails)
    prewarm.begin()
    assert prewarm.replica_name() == ""


def test_a_start_goes_on_without_a_thread_for_the_telemetry_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(self: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_thread)
    telemetry.ask_for_actor()
