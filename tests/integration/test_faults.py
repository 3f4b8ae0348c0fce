"""Everything that can break, broken: on a real Ray of three nodes, with a bound on how long it takes to be told.

``@pytest.mark.fault`` makes a test a row of docs/reliability.md. The bounds are generous multiples of the configured
timeouts: they are about "in bounded time", and not about how fast.
"""

from __future__ import annotations

import asyncio
import fcntl
import itertools
import logging
import os
import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    DownloadError,
    HookError,
    HookTimeoutError,
    NodeCtx,
    NodeInitializationError,
    NodeLostError,
    PlacementGroupError,
    hook,
    initialization,
)
from serve_llm_hooks.points import HOOK_NAMES
from tests import stub_engine
from tests.deployed import chat
from tests.faulty_s3 import CUT, DENIED, DENIED_WEIGHTS, STUCK, faulty_s3

from .hooks.dying import passed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from serve_llm_hooks.initialize import Initialization

pytestmark = pytest.mark.ray

FOR_EVER = 3600.0
_slots = itertools.count(100)


class Told(NamedTuple):
    """A start that failed: with what, and after how many seconds."""

    error: Exception
    run: Initialization
    after_s: float


def fail(config: Any, engine: Callable[[], object] = lambda: "the engine", **cluster: Any) -> Told:
    """One start, which fails."""
    from serve_llm_hooks.ray import RayCluster

    begun: list[Initialization] = []

    async def start() -> None:
        async with initialization(config, cluster=RayCluster(**cluster), on_begin=begun.append) as run:
            run.engine = engine()

    begin = time.monotonic()
    with pytest.raises(Exception) as caught:  # each test says which
        asyncio.run(start())
    return Told(caught.value, begun[0], time.monotonic() - begin)


def only(error: Exception) -> Exception:
    """The one node's error."""
    assert isinstance(error, NodeInitializationError)
    (one,) = error.exceptions
    return one


def wait_until(what: Callable[[], object], within_s: float = 30) -> None:
    """Ask again and again: what happens in Ray's processes tells nobody."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.05)


def ended(pid: int) -> bool:
    """Whether a process has ended, be it that nobody has asked for its status yet."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def pid_in(file: Path) -> int:
    """The process id that a hook has left there."""
    return int(file.read_text())


# -- nodes --------------------------------------------------------------------------------------------------------


class Doomed(NamedTuple):
    """A fourth node, which a test may lose."""

    node_id: str
    slot: str
    raylet: int


@pytest.fixture
def doomed(ray_cluster: Any, three_nodes: list[str]) -> Iterator[Doomed]:
    """A node that comes to grief; the other three stay."""
    import ray

    slot = f"slot-{next(_slots)}"
    node = ray_cluster.add_node(num_cpus=4, resources={slot: 1000})
    process = node.all_processes["raylet"][0].process
    raylet = process.pid
    # Where a raylet is a child of init, it is gone when it has ended, and its workers see that; here it is ours.
    threading.Thread(target=process.wait, daemon=True).start()
    try:
        (node_id,) = (each["NodeID"] for each in ray.nodes() if slot in each["Resources"])
        yield Doomed(node_id, slot, raylet)
    finally:
        if not ended(raylet):
            os.kill(raylet, signal.SIGCONT)
        ray_cluster.remove_node(node, allow_graceful=False)


def both(doomed: Doomed) -> dict[str, Any]:
    """A placement group over the first node and the doomed one."""
    return {"bundles": [{"CPU": 1, "slot-0": 1}, {"CPU": 1, doomed.slot: 1}], "strategy": "PACK"}


@pytest.mark.fault(
    "a node's raylet is killed while its hook runs",
    promise="`NodeInitializationError` naming the node; after `node_grace_s` the others are cancelled, and no task is "
    "left running",
)
def test_a_raylet_is_killed(
    make_config: Callable[..., Any], three_nodes: list[str], doomed: Doomed, tmp_path: Path
) -> None:
    def strike(ctx: NodeCtx) -> None:
        (tmp_path / ctx.node_id).write_text(str(os.getpid()))
        if ctx.node_id == doomed.node_id:
            while not (tmp_path / three_nodes[0]).exists():
                time.sleep(0.05)
            os.kill(doomed.raylet, signal.SIGKILL)
        time.sleep(FOR_EVER)

    config = make_config(hook("on_before_node_download")(strike), placement_group_config=both(doomed))
    told = fail(config, node_grace_s=2, node_timeout_s=30)

    assert told.after_s < 2 * 30
    error = only(told.error)
    assert isinstance(error, NodeLostError)
    assert error.node_id == doomed.node_id
    assert doomed.node_id in str(told.error)
    assert told.run.ctx.nodes[three_nodes[0]].error == "cancelled, because another node failed"
    for node_id in (doomed.node_id, three_nodes[0]):
        wait_until(lambda file=tmp_path / node_id: ended(pid_in(file)))  # type: ignore[misc]


@pytest.mark.fault(
    "a node's raylet is stopped without a word (SIGSTOP) while its hook runs",
    promise="the same, after `SERVE_LLM_HOOKS_NODE_TIMEOUT_S`",
)
def test_a_raylet_is_stopped(make_config: Callable[..., Any], doomed: Doomed, tmp_path: Path) -> None:
    def strike(ctx: NodeCtx) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        os.kill(doomed.raylet, signal.SIGSTOP)
        time.sleep(FOR_EVER)

    group = {"bundles": [{"CPU": 1, doomed.slot: 1}], "strategy": "PACK"}
    told = fail(make_config(hook("on_before_node_download")(strike), placement_group_config=group), node_timeout_s=15)

    assert told.after_s < 4 * 15
    error = only(told.error)
    assert isinstance(error, NodeLostError)
    assert error.node_id == doomed.node_id
    wait_until(lambda: ended(pid_in(tmp_path / "pid")))


@pytest.mark.fault(
    "the worker process of a hook is killed (out of memory looks like this)",
    promise="`NodeInitializationError`, which says so and names the node",
)
def test_a_worker_process_is_killed(make_config: Callable[..., Any], three_nodes: list[str]) -> None:
    def strike(ctx: NodeCtx) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    told = fail(make_config(hook("on_before_node_download")(strike), nodes=1), node_timeout_s=30)

    assert told.after_s < 2 * 30
    error = only(told.error)
    assert isinstance(error, NodeLostError)
    assert error.node_id in three_nodes
    killed = f"the process of model 'm' on node {error.node_id} was killed (out of memory?)"
    assert killed in str(told.error)


def in_sleep() -> None:
    time.sleep(FOR_EVER)


def in_c() -> None:
    import ctypes

    ctypes.CDLL(None).pause()


def in_c_with_the_gil() -> None:
    import ctypes

    ctypes.PyDLL(None).pause()


@pytest.mark.fault(
    "a hook blocks for ever in `time.sleep` or in C code",
    promise="`HookTimeoutError` after its `timeout_s`; its process ends by force",
)
@pytest.mark.parametrize("block", [in_sleep, in_c])
def test_a_hook_blocks(block: Callable[[], None], make_config: Callable[..., Any], tmp_path: Path) -> None:
    def hang(ctx: NodeCtx) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        block()

    told = fail(make_config(hook("on_before_node_download", timeout_s=2)(hang), nodes=1))

    assert told.after_s < 15 * 2
    error = only(told.error)
    assert isinstance(error, HookTimeoutError)
    assert "still running after timeout_s=2" in str(error)
    wait_until(lambda: ended(pid_in(tmp_path / "pid")))


@pytest.mark.fault(
    "a hook blocks for ever in C code that keeps the GIL, so that nothing in its process can tell the time",
    promise="`NodeInitializationError` after `SERVE_LLM_HOOKS_NODE_TIMEOUT_S`; its process ends by force",
)
def test_a_hook_blocks_its_whole_process(make_config: Callable[..., Any], tmp_path: Path) -> None:
    def hang(ctx: NodeCtx) -> None:
        (tmp_path / "pid").write_text(str(os.getpid()))
        in_c_with_the_gil()

    told = fail(make_config(hook("on_before_node_download", timeout_s=1)(hang), nodes=1), node_timeout_s=8)

    assert told.after_s < 5 * 8
    error = only(told.error)
    assert isinstance(error, NodeLostError)
    assert "did not answer within 8 s" in str(error)
    wait_until(lambda: ended(pid_in(tmp_path / "pid")))


# -- placement groups ---------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "a placement group that this cluster has no room for now",
    promise="`PlacementGroupError` after `SERVE_LLM_HOOKS_PLACEMENT_GROUP_TIMEOUT_S`: what was asked, what there is",
)
def test_a_group_that_does_not_get_its_turn(make_config: Callable[..., Any]) -> None:
    import ray

    bundles = [{"slot-1": 600.0}]
    assert ray.util.placement_group(bundles).wait(60)  # removed with all of this test's groups
    config = make_config(placement_group_config={"bundles": bundles, "strategy": "PACK"})
    told = fail(config, placement_group_timeout_s=3)

    assert told.after_s < 10 * 3
    assert isinstance(told.error, PlacementGroupError)
    assert "was not scheduled within 3 s (SERVE_LLM_HOOKS_PLACEMENT_GROUP_TIMEOUT_S)" in str(told.error)
    assert "asked for PACK of {'slot-1': 600.0}" in str(told.error)
    assert "'slot-1': 1000.0" in str(told.error)


# -- downloads ----------------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "a download fails: no such bucket, access denied, connection cut half-way, no space left",
    promise="`DownloadError` naming the node, the source and the cause; also where Ray's downloader logs the cause and "
    "goes on with what has arrived",
)
@pytest.mark.parametrize(
    ("bucket", "cause"),
    [
        ("no-such-bucket", "NoSuchBucket"),
        (DENIED, "AccessDenied"),
        (DENIED_WEIGHTS, "Failed to download m/model.safetensors: An error occurred .403."),
        (CUT, "Failed to download m/model.safetensors: .*2048 read, but total bytes expected is 4096"),
        ("full-disk", "Failed to download m/model.safetensors: .*No space left on device"),
    ],
    ids=["no such bucket", "access denied", "access to one file denied", "connection cut half-way", "no space left"],
)
def test_a_download_fails(
    bucket: str, cause: str, make_config: Callable[..., Any], s3: str, three_nodes: list[str], tmp_path: Path
) -> None:
    if bucket == "full-disk":  # the one file that is always full; boto writes to it directly, as it is a device
        target = tmp_path / "hub" / "models--absent" / "snapshots" / ("0" * 40)
        target.mkdir(parents=True)
        (target / "model.safetensors").symlink_to("/dev/full")
    with faulty_s3() as url:
        told = fail(
            make_config(
                nodes=1,
                model_loading_config={"model_id": "absent", "model_source": {"bucket_uri": f"s3://{bucket}/m"}},
                runtime_env={
                    "env_vars": {
                        "AWS_ENDPOINT_URL_S3": s3 if bucket == "no-such-bucket" else url,
                        "HOME": str(tmp_path),
                        "HF_HOME": str(tmp_path),
                    }
                },
            ),
            node_timeout_s=60,
        )

    assert told.after_s < 2 * 60
    error = only(told.error)
    assert isinstance(error, DownloadError)
    assert error.node_id in three_nodes
    assert f"model 'absent' could not be downloaded to node {error.node_id} from s3://{bucket}/m: " in str(error)
    assert re.search(cause, str(error))


# -- the engine, and hooks after the first error ------------------------------------------------------------------


@pytest.mark.fault(
    "the engine fails to start",
    promise="`on_failure` hooks run, with `ctx.error`; Ray's own error is raised, unchanged",
)
@pytest.mark.engine
def test_the_engine_fails_to_start(make_config: Callable[..., Any], tmp_path: Path) -> None:
    from serve_llm_hooks.ray import LLMServer

    told: list[BaseException | None] = []

    @hook("on_failure")
    def failure(ctx: CallbackCtx) -> None:
        told.append(ctx.error)

    (tmp_path / "model" / "config.json").write_text("{no config")
    server = LLMServer.sync_init(make_config(failure, nodes=1))
    with pytest.raises(Exception) as caught:
        asyncio.run(server.start())

    assert told == [caught.value]
    assert type(caught.value) is RuntimeError
    assert str(caught.value).startswith("Failed to create vLLM engine config: It looks like the config file")
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.fault(
    'a hook fails in `on_failure`, or has `on_error="warn"`',
    promise="it is logged once; the first error is what is raised, and the other `on_failure` hooks run",
)
def test_a_hook_fails_where_that_changes_nothing(
    make_config: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    ran: list[str] = []

    @hook("on_before_init", on_error="warn")
    def metrics(ctx: CallbackCtx) -> None:
        raise ValueError("no metrics today")

    @hook("on_before_download")
    def first(ctx: CallbackCtx) -> None:
        raise KeyError("no such bucket")

    @hook("on_failure")
    def clean_up(ctx: CallbackCtx) -> None:
        raise OSError("no clean-up either")

    @hook("on_failure")
    def tell(ctx: CallbackCtx) -> None:
        ran.append(repr(ctx.error))

    with caplog.at_level(logging.INFO, logger="serve_llm_hooks"):
        told = fail(make_config(metrics, first, clean_up, tell, nodes=1))

    assert isinstance(told.error, HookError)
    assert isinstance(told.error.__cause__, KeyError)
    assert ran == [repr(told.error)]
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    for once in ("no metrics today", "no such bucket", "no clean-up either"):
        assert len([line for line in lines if once in line]) == 1, lines


# -- the replica --------------------------------------------------------------------------------------------------

# A model for every two deaths: what takes long is the start of a replica, and Serve gives up after three deaths.
DEATHS: dict[str, tuple[str, ...]] = {
    "a": ("on_before_init", "on_after_init"),
    "b": ("on_before_download", "on_after_engine_init"),
    "c": ("on_before_node_download", "on_before_engine_init"),
    "d": ("on_after_node_download", "on_after_placement_group"),
    "e": ("download", "on_after_download"),
    "f": ("on_custom_init",),
}


class Deployed(NamedTuple):
    """What came of all these replicas that died."""

    url: str
    folder: Path
    groups: list[dict[str, Any]]


@pytest.fixture(scope="module")
def restarted(serve_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """One application of all these models, which answers in the end."""
    import ray
    from ray import serve

    from serve_llm_hooks.ray import build_openai_app

    folder = tmp_path_factory.mktemp("dying")
    before = set(ray.util.placement_group_table())

    def kill_while_downloading() -> None:
        (folder / "e" / "download").touch()
        os.kill(passed(folder / "e")[-1].replica, signal.SIGKILL)

    def config(model_id: str, deaths: tuple[str, ...], s3_url: str) -> dict[str, Any]:
        home = folder / model_id / "home"
        home.mkdir(parents=True)
        variables = {
            "RAYLLM_VLLM_ENGINE_CLS": stub_engine.PATH,
            "DYING_FOLDER": str(folder),
            "DYING_AT": " ".join(deaths),
            "DYING_GROUP": "of a hook" if model_id == "c" else "",
            "AWS_ENDPOINT_URL_S3": s3_url,
            "HOME": str(home),
            "HF_HOME": str(home),
        }
        return {
            "model_id": model_id,
            "model_loading_config": {
                "model_source": {"bucket_uri": f"s3://{STUCK}/m"} if "download" in deaths else "/nowhere"
            },
            "hooks": ["tests.integration.hooks.dying"],
            "accelerator_config": {"kind": "cpu"},
            "placement_group_config": {"bundles": [{"CPU": 0.1}]},
            "log_engine_metrics": False,
            "runtime_env": {"env_vars": variables},
        }

    with faulty_s3(kill_while_downloading) as s3_url:
        configs = [config(model_id, deaths, s3_url) for model_id, deaths in DEATHS.items()]
        try:
            app = build_openai_app({"llm_configs": configs})
            serve.run_many([serve.RunTarget(app, "dying", "/dying")], wait_for_applications_running=False)
            wait_until(lambda: serve.status().applications["dying"].status != "DEPLOYING", 600)
            assert serve.status().applications["dying"].status == "RUNNING", serve.status()
            groups = [row for id_, row in ray.util.placement_group_table().items() if id_ not in before]
            yield Deployed(f"{serve_url}/dying", folder, groups)
        finally:
            serve.delete("dying")


@pytest.mark.fault(
    "the replica is killed between any two points",
    promise="Serve starts another, whose hooks run again from the top; no placement group, process, lock or file of "
    "the dead one's is left",
)
@pytest.mark.parametrize("model_id", DEATHS, ids=[" and ".join(deaths) for deaths in DEATHS.values()])
def test_the_replica_is_killed(model_id: str, restarted: Deployed) -> None:
    from ray import serve

    folder, deaths = restarted.folder / model_id, DEATHS[model_id]
    starts: dict[int, list[str]] = {}
    for start in passed(folder):
        starts.setdefault(start.replica, []).append(start.point)
    last_before = {"download": "on_before_node_download"}
    *dead, alive = starts.values()
    whole = [point for point in HOOK_NAMES if point in alive]
    assert alive == whole
    assert [points[-1] for points in dead] == [last_before.get(death, death) for death in deaths]
    for points in dead:
        assert points == whole[: len(points)]
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == sorted([*deaths, "passed"])

    events = serve.get_deployment_handle(f"LLMServer:{model_id}", "dying").hook_trace.remote().result(timeout_s=60)
    assert [event.point for event in events] == whole
    assert chat(restarted.url, model_id)[1]["choices"][0]["message"]["content"] == "ok"

    *_, living = starts
    for process in {start.process for start in passed(folder)} - {living}:
        wait_until(lambda process=process: ended(process))  # type: ignore[misc]
    assert not ended(living)
    for lock in folder.glob("home/*.lock"):
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if model_id == "e":
        assert [path.name for path in folder.glob("home/*.lock")] != []


@pytest.mark.fault("the replica is killed between any two points")
def test_the_groups_of_dead_replicas_are_gone(restarted: Deployed) -> None:
    there = [group for group in restarted.groups if group["state"] != "REMOVED"]
    living = passed(restarted.folder / "c")[-1].replica
    assert [group["name"] for group in there if group["name"].startswith("of a hook")] == [f"of a hook {living}"]
    assert len(there) == len(DEATHS) + 1, there
