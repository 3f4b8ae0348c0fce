"""Everything that can break, broken: on a real Ray of three nodes, with a bound on how long it takes to be told.

``@pytest.mark.fault`` makes a test a row of docs/reliability.md. The bounds are generous multiples of the configured
timeouts: they are about "in bounded time", and not about how fast. A node's timeout counts from when it is asked, so
the start of a process there, seconds on a busy machine, is in it: it is ``LONG_S`` where it must not strike, and leaves
time to begin where it must.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import inspect
import itertools
import logging
import os
import re
import signal
import threading
import time
from functools import partial
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
from serve_llm_hooks._core.points import HOOK_NAMES, HOOK_POINTS
from tests import stub_engine
from tests.conftest import no_groups_left, written
from tests.deployed import chat
from tests.faulty_s3 import CUT, DENIED, DENIED_WEIGHTS, STUCK, faulty_s3

from .hooks import dying
from .hooks.dying import Passed, passed, strike

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from serve_llm_hooks._replica.initialize import Initialization

pytestmark = pytest.mark.ray

FOR_EVER = 3600.0
LONG_S = 120.0  # a limit that must not strike
ANSWER_S = 15.0  # a limit that must strike, and not before the node's process has begun with its hook
DEPLOYED_S = 1000.0  # the starts of many replicas, each of which imports vLLM
_slots = itertools.count(100)


class Told(NamedTuple):
    """A start that failed: with what, and after how many seconds."""

    error: Exception
    run: Initialization
    after_s: float


def start(config: Any, on_begin: Callable[[Initialization], object] | None = None, **cluster: Any) -> None:
    """One start, to its end; the engine is a stand-in."""
    from serve_llm_hooks.ray import RayCluster

    async def run() -> None:
        async with initialization(config, cluster=RayCluster(**cluster), on_begin=on_begin) as run:
            run.engine = "the engine"

    asyncio.run(run())


def fail(config: Any, **cluster: Any) -> Told:
    """One start, which fails, and leaves no placement group."""
    import ray

    begun: list[Initialization] = []
    begin = time.monotonic()
    with pytest.raises(Exception) as caught:  # each test says which
        start(config, begun.append, **cluster)
    told = Told(caught.value, begun[0], time.monotonic() - begin)
    group = told.run.ctx.placement_group
    wait_until(lambda: ray.util.placement_group_table(group).get("state", "REMOVED") == "REMOVED")
    return told


def settled(name: str) -> Any:
    """An application's status, once Serve has started it or has given it up."""
    from ray import serve

    def is_settled() -> bool:
        return serve.status().applications[name].status in ("RUNNING", "DEPLOY_FAILED")

    wait_until(is_settled, DEPLOYED_S, every_s=1)  # asking takes Serve's controller a while
    return serve.status().applications[name]


def only(error: Exception) -> Exception:
    """The one node's error."""
    assert isinstance(error, NodeInitializationError)
    (one,) = error.exceptions
    return one


def wait_until(
    what: Callable[[], object],
    within_s: float = 60,
    otherwise: str = "it did not happen",
    every_s: float = 0.05,
) -> None:
    """Ask again and again: what happens in Ray's processes tells nobody."""
    deadline = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < deadline, f"{otherwise} within {within_s:g} s"
        time.sleep(every_s)


def ended(pid: int) -> bool:
    """Return True if a process has ended, be it that nobody has asked for its status yet."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def leave_pid(file: Path) -> None:
    """Say that a hook has begun, and in which process."""
    being_written = file.with_suffix(".part")
    being_written.write_text(str(os.getpid()))
    being_written.rename(file)


def wait_until_ended(file: Path) -> None:
    """Wait for the end of the process in which a hook has begun."""
    wait_until(file.exists, 10, f"the hook that leaves its process id in {file} has not begun")
    pid = int(file.read_text())
    wait_until(lambda: ended(pid), otherwise=f"the hook's process {pid} has not ended")


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


def over(*slots: str) -> dict[str, Any]:
    """A placement group over the nodes that have these."""
    return {"bundles": [{"CPU": 1, slot: 1} for slot in slots], "strategy": "PACK"}


@pytest.mark.fault(
    "a node's raylet is killed while its hook runs",
    promise="`NodeInitializationError` naming the node; after `node_grace_s` the others are cancelled, and no task is "
    "left running",
)
def test_a_raylet_is_killed(
    make_config: Callable[..., Any], three_nodes: list[str], doomed: Doomed, tmp_path: Path
) -> None:
    def strike(ctx: NodeCtx) -> None:
        leave_pid(tmp_path / ctx.node_id)
        if ctx.node_id == doomed.node_id:
            while not (tmp_path / three_nodes[0]).exists():
                time.sleep(0.05)
            os.kill(doomed.raylet, signal.SIGKILL)
        time.sleep(FOR_EVER)

    config = make_config(hook("on_before_node_download")(strike), placement_group_config=over("slot-0", doomed.slot))
    told = fail(config, node_grace_s=2, node_timeout_s=LONG_S)

    assert told.after_s < LONG_S
    error = only(told.error)
    assert isinstance(error, NodeLostError)
    assert error.node_id == doomed.node_id
    assert written(doomed.node_id) in str(told.error)
    assert "out of memory" not in str(told.error)
    assert told.run.ctx.nodes[three_nodes[0]].error == "cancelled, because another node failed"
    for node_id in (doomed.node_id, three_nodes[0]):
        wait_until_ended(tmp_path / node_id)


@pytest.mark.fault(
    "a node's raylet is stopped without a word (SIGSTOP) while its hook runs",
    promise="`NodeInitializationError` after `SERVE_LLM_HOOKS_NODE_TIMEOUT_S`, naming the nodes that have not answered "
    "by then: this one, and others that are still at work, whose tasks are cancelled; no task is left running",
)
def test_a_raylet_is_stopped(
    make_config: Callable[..., Any], three_nodes: list[str], doomed: Doomed, tmp_path: Path
) -> None:
    done, at_work, _ = three_nodes

    def strike(ctx: NodeCtx) -> None:
        leave_pid(tmp_path / ctx.node_id)
        if ctx.node_id == done:
            return
        if ctx.node_id == doomed.node_id:
            os.kill(doomed.raylet, signal.SIGSTOP)
        time.sleep(FOR_EVER)

    group = over("slot-0", "slot-1", doomed.slot)
    told = fail(
        make_config(hook("on_before_node_download")(strike), placement_group_config=group), node_timeout_s=ANSWER_S
    )

    assert told.after_s < 8 * ANSWER_S
    for node_id in (done, at_work, doomed.node_id):
        wait_until_ended(tmp_path / node_id)
    assert isinstance(told.error, NodeInitializationError)
    assert set(told.error.node_ids) == {doomed.node_id, at_work}
    for error in told.error.exceptions:
        assert isinstance(error, NodeLostError)
        assert "did not answer within 15 s; its task was cancelled" in str(error)
    assert told.run.ctx.nodes[done].error is None


@pytest.mark.fault(
    "the worker process of a hook is killed (out of memory looks like this)",
    promise="`NodeInitializationError`, which says so and names the node",
)
def test_a_worker_process_is_killed(make_config: Callable[..., Any], three_nodes: list[str]) -> None:
    def strike(ctx: NodeCtx) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    told = fail(make_config(hook("on_before_node_download")(strike), nodes=1), node_timeout_s=LONG_S)

    assert told.after_s < LONG_S
    error = only(told.error)
    assert isinstance(error, NodeLostError)
    assert error.node_id in three_nodes
    killed = f"the process of model 'm' on {written(error.node_id)} was killed (out of memory?)"
    assert killed in str(told.error)


def in_sleep() -> None:
    time.sleep(FOR_EVER)


def in_c() -> None:
    import ctypes

    ctypes.CDLL(None).pause()


def in_c_with_the_gil() -> None:
    import ctypes

    ctypes.PyDLL(None).pause()


async def in_a_thread() -> None:
    await asyncio.to_thread(time.sleep, FOR_EVER)


async def deaf_to_cancelling() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(FOR_EVER)


@pytest.mark.fault(
    "a hook blocks for ever: in `time.sleep`, in C code, in a thread that it awaits, or deaf to being cancelled",
    promise="`HookTimeoutError` after its `timeout_s`; its process ends by force",
)
@pytest.mark.parametrize("block", [in_sleep, in_c, in_a_thread, deaf_to_cancelling])
def test_a_hook_blocks(
    block: Callable[[], Awaitable[None] | None], make_config: Callable[..., Any], tmp_path: Path
) -> None:
    def begin(ctx: NodeCtx) -> Any:
        leave_pid(tmp_path / "pid")
        return block()

    async def begin_async(ctx: NodeCtx) -> Any:
        await begin(ctx)

    hang = begin_async if inspect.iscoroutinefunction(block) else begin
    told = fail(make_config(hook("on_before_node_download", timeout_s=2)(hang), nodes=1), node_timeout_s=LONG_S)

    assert told.after_s < 30 * 2
    error = only(told.error)
    assert isinstance(error, HookTimeoutError)
    assert "still running after timeout_s=2" in str(error)
    wait_until_ended(tmp_path / "pid")


@pytest.mark.fault(
    "a hook blocks for ever in C code that keeps the GIL, so that nothing in its process can tell the time",
    promise="`NodeInitializationError` after `SERVE_LLM_HOOKS_NODE_TIMEOUT_S`; its process ends by force",
)
def test_a_hook_blocks_its_whole_process(make_config: Callable[..., Any], tmp_path: Path) -> None:
    def hang(ctx: NodeCtx) -> None:
        leave_pid(tmp_path / "pid")
        in_c_with_the_gil()

    told = fail(make_config(hook("on_before_node_download", timeout_s=1)(hang), nodes=1), node_timeout_s=ANSWER_S)

    assert told.after_s < 8 * ANSWER_S
    wait_until_ended(tmp_path / "pid")
    error = only(told.error)
    assert isinstance(error, NodeLostError)
    assert "did not answer within 15 s" in str(error)


@pytest.fixture
def under_nohup(ray_cluster: Any, three_nodes: list[str]) -> Iterator[Doomed]:
    """Start a fourth node as `nohup` would, and with asyncio's own event loops."""
    import ray

    slot = f"slot-{next(_slots)}"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        environment = {"RAY_USE_UVLOOP": "0", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        node = ray_cluster.add_node(num_cpus=4, resources={slot: 1000}, env_vars=environment)
    finally:
        signal.signal(signal.SIGINT, before)
    try:
        (node_id,) = (each["NodeID"] for each in ray.nodes() if slot in each["Resources"])
        yield Doomed(node_id, slot, node.all_processes["raylet"][0].process.pid)
    finally:
        ray_cluster.remove_node(node, allow_graceful=False)


@pytest.mark.fault(
    "a node's task is cancelled where interrupts are ignored (`nohup`) and without uvloop",
    promise="its async hooks are cancelled, and may clean up, as everywhere else",
)
@pytest.mark.parametrize("timeout_s", [None, FOR_EVER])
def test_a_hook_cleans_up_under_nohup(
    timeout_s: float | None, make_config: Callable[..., Any], under_nohup: Doomed, tmp_path: Path
) -> None:
    async def wait(ctx: NodeCtx) -> None:
        leave_pid(tmp_path / "pid")
        try:
            await asyncio.sleep(FOR_EVER)
        finally:
            await asyncio.sleep(0.2)
            (tmp_path / "cleaned").write_text(type(asyncio.get_running_loop()).__module__)

    with open(f"/proc/{under_nohup.raylet}/status") as status:
        (ignored,) = (int(line.split()[1], 16) for line in status if line.startswith("SigIgn:"))
    assert ignored & 1 << signal.SIGINT - 1

    config = make_config(
        hook("on_before_node_download", timeout_s=timeout_s)(wait), placement_group_config=over(under_nohup.slot)
    )
    told = fail(config, node_timeout_s=ANSWER_S)

    assert "did not answer within 15 s" in str(told.error)
    wait_until_ended(tmp_path / "pid")
    assert (tmp_path / "cleaned").read_text().startswith("asyncio")


@pytest.mark.fault(
    "an async hook on a node raises `KeyboardInterrupt`, or cancels the task that it runs in",
    promise="`HookError` with the hook and the node",
)
@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "cancelled"])
def test_a_hook_ends_in_a_way_that_nobody_asked_for(kind: str, make_config: Callable[..., Any]) -> None:
    async def ends(ctx: NodeCtx) -> None:
        if kind == "KeyboardInterrupt":
            raise KeyboardInterrupt("of its own")
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(1)

    error = only(fail(make_config(hook("on_before_node_download")(ends), nodes=1), node_timeout_s=LONG_S).error)
    assert isinstance(error, HookError)
    assert error.node_id is not None
    assert kind in str(error)


# -- placement groups ---------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "a placement group that this cluster has no room for now",
    promise="`PlacementGroupError` after `SERVE_LLM_HOOKS_PLACEMENT_GROUP_TIMEOUT_S`: what was asked, what there is",
)
def test_a_group_that_does_not_get_its_turn(make_config: Callable[..., Any]) -> None:
    import ray

    bundles = [{"slot-1": 600.0}]
    assert ray.util.placement_group(bundles).wait(LONG_S)  # removed with all of this test's groups
    config = make_config(placement_group_config={"bundles": bundles, "strategy": "PACK"})
    told = fail(config, placement_group_timeout_s=3)

    assert told.after_s < 20 * 3
    assert isinstance(told.error, PlacementGroupError)
    assert "was not scheduled within 3 s (SERVE_LLM_HOOKS_PLACEMENT_GROUP_TIMEOUT_S)" in str(told.error)
    assert "asked for PACK of {'slot-1': 600.0}" in str(told.error)
    assert "'slot-1': 1000.0" in str(told.error)


class Listener(logging.Handler):
    """Does what it was told to do when a line is logged that has this in it; once."""

    def __init__(self, actions: dict[str, Callable[[], object]]) -> None:
        super().__init__()
        self.actions = actions
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = record.getMessage()
        for what in [what for what in self.actions if what in line]:
            self.heard.append(line)
            self.actions.pop(what)()


def test_what_a_start_waits_for_is_said_while_it_waits(
    make_config: Callable[..., Any],
    three_nodes: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Let each thing that is waited for happen only when the line that says so has been seen.

    Of the node, the replica says what that tells: which hook it is, and that it writes.
    """
    import ray

    bundles = [{"slot-1": 600.0}]
    room = ray.util.placement_group(bundles)
    assert room.wait(LONG_S)
    told = tmp_path / "told"

    def wait_to_be_told(ctx: NodeCtx) -> None:
        told.with_name("fetched").write_bytes(b"x" * 5_000_000)
        while not told.exists():
            time.sleep(0.05)

    group = "waiting for its placement group to be scheduled"
    nodes = f"waiting for 1 of 1 nodes: {written(three_nodes[1]).removeprefix('node ')}"
    listener = Listener(
        {group: lambda: ray.util.remove_placement_group(room), nodes: lambda: None, " MB written": told.touch}
    )
    log = logging.getLogger("serve_llm_hooks")
    monkeypatch.setattr("serve_llm_hooks._observe.progress.PROGRESS_S", 0.2)
    monkeypatch.setattr("serve_llm_hooks.ray.node_news.EVERY_S", 0.2)
    caplog.set_level(logging.INFO, logger=log.name)
    log.addHandler(listener)
    try:
        config = make_config(
            hook("on_before_node_download")(wait_to_be_told),
            placement_group_config={"bundles": bundles, "strategy": "PACK"},
        )
        begin = time.monotonic()
        start(config, node_timeout_s=LONG_S, placement_group_timeout_s=LONG_S)
        assert time.monotonic() - begin < 2 * LONG_S
    finally:
        log.removeHandler(listener)

    *heard, news = listener.heard
    assert [line.rpartition(" (")[0] for line in heard] == [f"model 'm': {group}", f"model 'm': {nodes}"]
    assert news.startswith(f"model 'm': {written(three_nodes[1])}: {__name__}:")
    assert re.search(r"\.wait_to_be_told, 5(\.\d+)? MB written, ", news)


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
            node_timeout_s=LONG_S,
        )

    assert told.after_s < LONG_S
    error = only(told.error)
    assert isinstance(error, DownloadError)
    assert error.node_id in three_nodes
    assert f"model 'absent' could not be downloaded to {written(error.node_id)} from s3://{bucket}/m: " in str(error)
    assert re.search(cause, str(error))


# -- the engine, and hooks after the first error ------------------------------------------------------------------


@pytest.mark.fault(
    "the engine fails to start",
    promise="`on_failure` hooks run, with `ctx.error`; Ray's own error is raised, unchanged",
)
@pytest.mark.engine
def test_the_engine_fails_to_start(make_config: Callable[..., Any], tmp_path: Path) -> None:
    from ray.serve.llm import LLMConfig as RayLLMConfig
    from ray.serve.llm.deployment import LLMServer as RayLLMServer

    from serve_llm_hooks.ray import LLMServer

    told: list[BaseException | None] = []

    @hook("on_failure")
    def failure(ctx: CallbackCtx) -> None:
        told.append(ctx.error)

    def start_error(server_cls: Any, config: Any) -> Exception:
        begin = time.monotonic()
        with pytest.raises(Exception) as caught:
            asyncio.run(server_cls.sync_init(config).start())
        assert time.monotonic() - begin < LONG_S
        return caught.value

    (tmp_path / "model" / "config.json").write_text("{no config")
    theirs = make_config(cls=RayLLMConfig, nodes=1)
    # Ray's own node initialization, with nothing to download, would only import vLLM in one more process.
    theirs.get_or_create_callback().ctx.run_init_node = False
    rays = start_error(RayLLMServer, theirs)
    ours = start_error(LLMServer, make_config(failure, nodes=1))

    assert told == [ours]
    assert type(ours) is type(rays)
    assert str(ours) == str(rays)
    assert type(ours.__cause__) is type(rays.__cause__)
    assert not hasattr(ours, "__notes__")


class GivenUp(NamedTuple):
    """Two deployments that Serve has given up: where their hooks have left what, and what its status says."""

    folder: Path
    of_engine: str
    of_hook: str


@pytest.fixture(scope="module")
def given_up(serve_url: str, tmp_path_factory: pytest.TempPathFactory) -> GivenUp:
    """Two applications at once, each of one replica: one's engine fails, the other's hook blocks."""
    from ray import serve

    from serve_llm_hooks.ray import LLMConfig, build_openai_app

    folder = tmp_path_factory.mktemp("given-up")

    @hook("on_failure")
    def failure(ctx: CallbackCtx) -> None:
        (folder / "error").write_text(repr(ctx.error))
        leave_pid(folder / "engine")

    @hook("on_before_download", timeout_s=2)
    def hang(ctx: CallbackCtx) -> None:
        leave_pid(folder / "hook")
        time.sleep(FOR_EVER)

    def target(name: str, *hooks: Any, **variables: str) -> serve.RunTarget:
        config = LLMConfig(
            model_id="m",
            model_loading_config={"model_source": "/nowhere"},
            hooks=hooks,
            accelerator_config={"kind": "cpu"},
            placement_group_config={"bundles": [{"CPU": 0.1}]},
            log_engine_metrics=False,
            deployment_config={"max_constructor_retry_count": 1, "ray_actor_options": {"num_cpus": 0.1}},
            runtime_env={"env_vars": {"RAYLLM_VLLM_ENGINE_CLS": stub_engine.PATH, **variables}},
        )
        return serve.RunTarget(build_openai_app({"llm_configs": [config]}), name, f"/{name}")

    def message(name: str) -> str:
        application = settled(name)
        assert application.status == "DEPLOY_FAILED"
        return str(application.deployments["LLMServer:m"].message)

    targets = [target("engine", failure, STUB_ENGINE_FAILS="no engine today"), target("hook", hang)]
    try:
        serve.run_many(targets, wait_for_applications_running=False)
        told = GivenUp(folder, of_engine=message("engine"), of_hook=message("hook"))
    finally:
        for each in targets:
            serve.delete(each.name)
    return told


@pytest.mark.fault("the engine fails to start")
def test_the_engine_of_a_deployment_fails_to_start(given_up: GivenUp) -> None:
    assert "RuntimeError: no engine today" in given_up.of_engine
    assert (given_up.folder / "error").read_text() == "RuntimeError('no engine today')"
    wait_until_ended(given_up.folder / "engine")


@pytest.mark.fault(
    "a hook in the replica blocks for ever in `time.sleep`",
    promise="`HookTimeoutError` after its `timeout_s`, which Serve's status then shows; the replica's process ends",
)
def test_a_hook_in_the_replica_blocks(given_up: GivenUp) -> None:
    assert re.search("HookTimeoutError: hook .*hang failed at on_before_download", given_up.of_hook)
    assert "still running after timeout_s=2" in given_up.of_hook
    wait_until_ended(given_up.folder / "hook")


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

    assert told.after_s < LONG_S
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
    "f": ("on_custom_init", "engine"),
    "g": ("pending", "elsewhere"),
}
# The last hook point before a death that is at none.
LAST_BEFORE = {
    "pending": "on_before_download",
    "download": "on_before_node_download",
    "elsewhere": "on_before_node_download",
    "engine": "on_before_engine_init",
}
TWO_NODES = {"bundles": [{"CPU": 0.1}, {"CPU": 0.1}], "strategy": "STRICT_SPREAD"}


class Deployed(NamedTuple):
    """Return what came of all these replicas that died."""

    url: str
    folder: Path
    older_groups: set[str]


@pytest.fixture(scope="module")
def restarted(serve_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """One application of all these models, which answers in the end."""
    import ray
    from ray import serve

    from serve_llm_hooks.ray import build_openai_app

    folder = tmp_path_factory.mktemp("dying")

    def kill_while_downloading() -> None:
        assert strike(folder / "e", "download")
        os.kill(passed(folder / "e")[-1].replica, signal.SIGKILL)

    def config(model_id: str, deaths: tuple[str, ...], s3_url: str) -> dict[str, Any]:
        home = folder / model_id / "home"
        home.mkdir(parents=True)
        variables = {
            "RAYLLM_VLLM_ENGINE_CLS": dying.ENGINE,
            "DYING_FOLDER": str(folder),
            "DYING_AT": " ".join(deaths),
            "DYING_LEAVES": "of a hook" if model_id == "c" else "",
            "AWS_ENDPOINT_URL_S3": s3_url,
            "HOME": str(home),
            "HF_HOME": str(home),
            "TMPDIR": str(home),
        }
        return {
            "model_id": model_id,
            "model_loading_config": {
                "model_source": {"bucket_uri": f"s3://{STUCK}/m"} if "download" in deaths else "/nowhere"
            },
            "hooks": ["tests.integration.hooks.dying"],
            "callback": "tests.integration.hooks.dying.Remembers",
            "accelerator_config": {"kind": "cpu"},
            "placement_group_config": TWO_NODES if model_id == "g" else {"bundles": [{"CPU": 0.1}]},
            "log_engine_metrics": False,
            "deployment_config": {"ray_actor_options": {"num_cpus": 0.1}},  # all of them fit on the three nodes
            "runtime_env": {"env_vars": variables},
        }

    with faulty_s3(kill_while_downloading) as s3_url, no_groups_left():
        assert ray.util.placement_group([dying.NO_ROOM]).wait(LONG_S)
        before = set(ray.util.placement_group_table())
        configs = [config(model_id, deaths, s3_url) for model_id, deaths in DEATHS.items()]
        try:
            app = build_openai_app({"llm_configs": configs})
            serve.run_many([serve.RunTarget(app, "dying", "/dying")], wait_for_applications_running=False)
            application = settled("dying")
            assert application.status == "RUNNING", application
            yield Deployed(f"{serve_url}/dying", folder, before)
        finally:
            serve.delete("dying")


@pytest.mark.fault(
    "the replica is killed between any two points",
    promise="Serve starts another, whose hooks run again from the top, with nothing left over from the run before; of "
    "the dead one no placement group, actor, process or held lock is left on any node, and no file of this library",
)
@pytest.mark.parametrize("model_id", DEATHS, ids=[" and ".join(deaths) for deaths in DEATHS.values()])
def test_the_replica_is_killed(model_id: str, restarted: Deployed) -> None:
    from ray import serve

    folder, deaths = restarted.folder / model_id, DEATHS[model_id]
    starts: dict[int, list[Passed]] = {}
    for start in passed(folder):
        starts.setdefault(start.replica, []).append(start)
    nodes = 2 if model_id == "g" else 1
    *dead, alive = [list(dict.fromkeys(start.point for start in each)) for each in starts.values()]
    whole = [point for point in HOOK_NAMES if point in alive]
    assert alive == whole
    assert [points[-1] for points in dead] == [LAST_BEFORE.get(death, death) for death in deaths]
    for points in dead:
        assert points == whole[: len(points)]
    *_, living = starts
    on_nodes = [point for point in whole if HOOK_POINTS[point].on_node]
    assert len(starts[living]) == len(whole) + len(on_nodes) * (nodes - 1)  # each once, and once on each node
    for death, after in zip(deaths, list(starts.values())[1:], strict=True):
        assert after[0].at_s - float((folder / death).read_text()) < DEPLOYED_S / 2
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == sorted([*deaths, "passed"])

    events = serve.get_deployment_handle(f"LLMServer:{model_id}", "dying").hook_trace.remote().result(timeout_s=300)
    assert list(dict.fromkeys(event.point for event in events if event.ran)) == whole
    assert chat(restarted.url, model_id)[1]["choices"][0]["message"]["content"] == "ok"

    if "elsewhere" in deaths:
        killed = next(each for each in starts.values() if each[-1].point == "on_before_node_download")
        assert len({start.node_id for start in killed}) == 2
    for process in {start.process for start in passed(folder)} - {living}:
        wait_until(partial(ended, process), otherwise=f"process {process} has not ended")
    assert not ended(living)
    for lock in folder.glob("home/*.lock"):
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    # Its home is also where its temporary files go. What begins with a dot is torch's, or vLLM's.
    left = {path.name for path in folder.glob("home/*") if not path.name.startswith(".")}
    assert left == ({"hub", "e-full.lock"} if "download" in deaths else set())  # Ray's downloader's


@pytest.mark.fault("the replica is killed between any two points")
def test_the_groups_and_actors_of_dead_replicas_are_gone(restarted: Deployed) -> None:
    import ray

    def groups() -> list[str]:
        rows = ray.util.placement_group_table()
        return [rows[id_]["name"] for id_ in rows.keys() - restarted.older_groups if rows[id_]["state"] != "REMOVED"]

    wait_until(lambda: len(groups()) <= len(DEATHS) + 1, otherwise="groups of dead replicas have not gone")
    of_hooks = [f"of a hook {passed(restarted.folder / 'c')[-1].replica}"]
    assert len(groups()) == len(DEATHS) + 1
    assert [name for name in groups() if name.startswith("of a hook")] == of_hooks

    actors = [actor["name"] for actor in ray.util.list_named_actors(all_namespaces=True)]
    assert [name for name in actors if name.startswith("of a hook")] == of_hooks
    replicas = [name.partition("LLMServer:")[2] for name in actors if "LLMServer:" in name]
    assert sorted(name[0] for name in replicas) == sorted(DEATHS), actors
