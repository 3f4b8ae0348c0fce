"""A hook that runs once per node: one process runs it, and the others on the node take what it has come to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import DownloadMode, Hook, ServeLLMHooksError, skip
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._node.node_folder import NodeFolder
from serve_llm_hooks._node.packing import unpack_custom_data
from serve_llm_hooks._node.task import Rollout
from serve_llm_hooks._node.work import run_task
from tests.unit.stub import node_task, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks import NodeCtx
    from serve_llm_hooks._node.task import NodeReport, NodeTask

ROLLOUT = Rollout("app#llm", "1")
CALLS: list[str] = []  # in this process, in which all of a test's "processes" are


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Path:
    CALLS.clear()
    return tmp_path


def once(fn: Callable[..., Any], key: bool | str = True, **options: Any) -> Hook:
    """A hook with these options, whatever options the function has had in other tests."""
    return Hook(fn, HookOptions("on_before_node_download", once_per_node=key, **options))


async def work(
    task: NodeTask, folder: Path, process_id: int | None = None, made: type[NodeFolder] = NodeFolder
) -> NodeReport:
    async def download(task: NodeTask, mode: DownloadMode) -> str | None:
        return "/downloaded"

    environ = {"SERVE_LLM_HOOKS_NODE_DIR": str(folder)}
    clock = asyncio.get_running_loop().time
    own = made(environ, process_id=process_id)
    return await run_task(task, download, clock=clock, epoch_s=0.0, environ=environ, folder=own)


def start(folder: Path, *hooks: Hook, process_id: int = 14137, data: Any = None, **fields: Any) -> NodeReport:
    """The work of one replica on node n0."""
    return run(work(node_task(hooks, data, **{"rollout": ROLLOUT, **fields}), folder, process_id))


def data_of(report: NodeReport) -> dict[str, Any]:
    return unpack_custom_data(report.custom_data, where="the test")


def told(report: NodeReport) -> list[tuple[str, str, str]]:
    return [(event.name, event.outcome, event.detail) for event in report.events]


def fetch(ctx: NodeCtx) -> None:
    CALLS.append("fetch")
    assert not ctx.unfinished
    ctx.model_path = "/models/here"
    ctx.custom_data["fetched"] = [ctx.model_id]


async def fetch_slowly(ctx: NodeCtx) -> None:
    CALLS.append("fetch_slowly")
    await asyncio.sleep(6)
    ctx.custom_data["unfinished"] = ctx.unfinished


def veto(ctx: NodeCtx) -> Any:
    CALLS.append("veto")
    del ctx.custom_data["given"]
    return skip("it is in the image")


def fails(ctx: NodeCtx) -> None:
    CALLS.append("fails")
    raise OSError("disk full")


def later(ctx: NodeCtx) -> None:
    CALLS.append("later")


async def fails_first(ctx: NodeCtx) -> None:
    CALLS.append("fails_first")
    await asyncio.sleep(6)
    if len(CALLS) == 1:
        raise OSError("disk full")


async def hangs_first(ctx: NodeCtx) -> None:
    CALLS.append("hangs_first")
    if len(CALLS) == 1:
        await asyncio.sleep(60)
    ctx.custom_data["unfinished"] = ctx.unfinished


async def cleans_up_first(ctx: NodeCtx) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await hangs_first(ctx)


def choose(ctx: NodeCtx) -> None:
    ctx.download_model = "TOKENIZER_ONLY"


def get(ctx: NodeCtx, *, bucket: str) -> None:
    CALLS.append(bucket)


def bring(ctx: NodeCtx) -> None:
    CALLS.append("bring")
    place = Path(ctx.custom_data["place"])
    place.mkdir()
    ctx.model_path = str(place)


GO_ON = threading.Event()


def hangs(ctx: NodeCtx) -> None:
    CALLS.append("hangs")
    GO_ON.wait(10)


def makes_a_lock(ctx: NodeCtx) -> None:
    CALLS.append("makes_a_lock")
    ctx.custom_data["lock"] = threading.Lock()


WENT_ON = threading.Event()


def ends_late(ctx: NodeCtx) -> None:
    CALLS.append("ends_late")
    WENT_ON.wait(10)


def sets_a_port(ctx: NodeCtx) -> None:
    ctx.custom_data["port"] = 1000
    WENT_ON.set()


def returns_a_list(ctx: NodeCtx) -> Any:
    return []


# -- what the others get ----------------------------------------------------------------------------------------------


def test_the_second_takes_what_the_first_has_come_to(folder: Path) -> None:
    first = start(folder, once(fetch))
    second = start(folder, once(fetch), process_id=15000)
    assert CALLS == ["fetch"]
    assert told(first) == [("fetch", "ok", "")]
    assert told(second) == [("fetch", "replayed", "done by process 14137")]
    assert not second.events[0].ran
    assert data_of(first) == data_of(second) == {"fetched": ["m"]}
    assert first.path == second.path == "/models/here"


def test_its_own_data_stays(folder: Path) -> None:
    start(folder, once(fetch), data={"port": 1, "fetched": ["older"]})
    assert data_of(start(folder, once(fetch), data={"port": 2})) == {"port": 2, "fetched": ["m"]}


def test_a_veto_holds_for_the_others(folder: Path) -> None:
    mirror = {"bucket_uri": "s3://models/m"}
    fields: dict[str, Any] = {
        "mirror": mirror,
        "download_model": DownloadMode.MODEL_AND_TOKENIZER,
        "data": {"given": 1},
    }
    first, second = start(folder, once(veto), **fields), start(folder, once(veto), **fields)
    assert CALLS == ["veto"]
    assert first.skipped == second.skipped == "it is in the image"
    assert told(second) == [("veto", "replayed", "done by process 14137; it vetoed: it is in the image")]
    assert data_of(second) == {}


def test_the_hooks_around_it_run_in_every_process(folder: Path) -> None:
    hooks = [once(fetch), once(later, False)]
    start(folder, *hooks)
    report = start(folder, *hooks)
    assert CALLS == ["fetch", "later", "later"]
    assert [event.name for event in report.events] == ["fetch", "later"]


def test_the_download_mode_is_taken_too(folder: Path) -> None:
    first, second = start(folder, once(choose)), start(folder, once(choose))
    assert first.download_model is second.download_model is DownloadMode.TOKENIZER_ONLY


# -- for how long ----------------------------------------------------------------------------------------------------


def test_true_is_once_per_rollout(folder: Path) -> None:
    for version in ("1", "2", "1", "2"):
        start(folder, once(fetch), rollout=ROLLOUT._replace(version=version))
    assert CALLS == ["fetch"] * 2
    start(folder, once(fetch), rollout=ROLLOUT._replace(deployment="app#other"))
    start(folder, once(fetch), node_id="n1")
    assert CALLS == ["fetch"] * 4


def test_few_rollouts_are_kept(folder: Path) -> None:
    for version in range(20):
        start(folder, once(fetch), rollout=ROLLOUT._replace(version=str(version)))
    assert len([file for file in folder.rglob("*") if file.is_file()]) == 2  # a lock, and a record
    assert max(file.stat().st_size for file in folder.rglob("*")) < 20_000


def test_a_key_holds_over_rollouts_and_is_of_one_model(folder: Path) -> None:
    hook = once(fetch, "weights-{model_id}")
    start(folder, hook)
    start(folder, hook, rollout=ROLLOUT._replace(version="2"), node_id="n1")
    assert CALLS == ["fetch"]
    start(folder, hook, model_id="other")
    start(folder, once(fetch, "weights-{model_id}-v2"))
    assert CALLS == ["fetch"] * 3


def test_other_parameters_are_another_hook(folder: Path) -> None:
    hook = once(get, "bucket")
    for bucket in ("a", "b", "a", "b"):
        start(folder, hook.bind({"bucket": bucket}))
    assert CALLS == ["a", "b"]


def test_each_model_of_a_job_has_its_own(folder: Path) -> None:
    """Outside of Serve the rollout is the job, and has several models."""
    for model_id in ("llama", "qwen"):
        assert data_of(start(folder, once(fetch), model_id=model_id)) == {"fetched": [model_id]}


class Bring:
    """Given as an object, and not as its class with parameters."""

    def __init__(self, what: str) -> None:
        self.what = what

    def bring(self, ctx: NodeCtx) -> None:
        ctx.custom_data["what"] = self.what


def bringing(what: str) -> Callable[[NodeCtx], None]:
    def bring_it(ctx: NodeCtx) -> None:
        ctx.custom_data["what"] = what

    return bring_it


def bring_what(what: str, ctx: NodeCtx) -> None:
    ctx.custom_data["what"] = what


@pytest.mark.parametrize(
    "made",
    [bringing, lambda what: Bring(what).bring, lambda what: partial(bring_what, what)],
    ids=["closure", "method", "partial"],
)
def test_functions_that_are_made_for_different_things_share_nothing(folder: Path, made: Any) -> None:
    for outcome in ("ok", "replayed"):
        for what in ("a", "b"):
            report = start(folder, once(made(what), "v1"))
            assert told(report)[0][1] == outcome
            assert data_of(report) == {"what": what}


def test_what_is_gone_is_brought_again(folder: Path) -> None:
    place, hook = folder / "weights", once(bring, "weights")
    data = {"place": str(place)}
    start(folder, hook, data=data)
    start(folder, hook, data=data)
    assert CALLS == ["bring"]
    place.rmdir()
    assert told(start(folder, hook, data=data)) == [("bring", "ok", "")]


# -- one waits for another --------------------------------------------------------------------------------------------


def both(folder: Path, *hooks: Hook, apart_s: float = 1.0) -> tuple[NodeReport, NodeReport]:
    """The work of two replicas, the second of which begins a little later."""

    async def main() -> tuple[NodeReport, NodeReport]:
        task = node_task(hooks, rollout=ROLLOUT)
        first = asyncio.create_task(work(task, folder, 14137))
        await asyncio.sleep(apart_s)
        return await asyncio.gather(first, work(task, folder, 15000))

    return run(main())


def test_the_others_wait(folder: Path) -> None:
    first, second = both(folder, once(fetch_slowly, timeout_s=6.5), apart_s=0.0001)
    assert CALLS == ["fetch_slowly"]
    assert told(first) == [("fetch_slowly", "ok", "")]
    ((_, outcome, detail),) = told(second)
    assert outcome == "replayed"
    assert detail.startswith("done by process 14137, waited 6.")
    assert 6 <= second.events[0].duration_s < 7


def test_waiting_is_not_counted_in_the_time_limit(folder: Path) -> None:
    first, second = both(folder, once(fails_first, timeout_s=7))
    assert first.failure is not None
    assert told(second) == [("fails_first", "ok", "")]
    assert second.events[0].duration_s == pytest.approx(6)


def test_waiting_is_told_in_the_log(folder: Path) -> None:
    from serve_llm_hooks._node.once import OncePerNode

    said: list[str] = []
    pause = NodeFolder.pause

    async def look(self: NodeFolder, seconds: float) -> None:
        said.extend(each.waits_for for each in made)
        await pause(self, seconds)

    made: list[OncePerNode] = []
    begin = OncePerNode.__init__

    def begin_and_keep(self: OncePerNode, *about: Any) -> None:
        begin(self, *about)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OncePerNode, "__init__", begin_and_keep)
        patch.setattr(NodeFolder, "pause", look)
        both(folder, once(fetch_slowly))
    path = f"{__name__}:fetch_slowly"
    assert {each for each in said if each} == {f"process 14137 to run {path}, once for all on this node"}


def test_waiting_can_be_cancelled(folder: Path) -> None:
    async def main() -> None:
        task = node_task([once(fetch_slowly)], rollout=ROLLOUT)
        first = asyncio.create_task(work(task, folder))
        await asyncio.sleep(1)
        second = asyncio.create_task(work(task, folder))
        await asyncio.sleep(1)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert (await first).failure is None

    run(main())
    assert CALLS == ["fetch_slowly"]


# -- when it goes wrong ----------------------------------------------------------------------------------------------


def test_a_failure_leaves_no_record(folder: Path) -> None:
    hook = once(fails_first)
    assert "OSError: disk full" in str(start(folder, hook).failure)
    assert told(start(folder, hook)) == [("fails_first", "ok", "")]
    assert told(start(folder, hook))[0][1] == "replayed"


def test_a_failure_is_not_unfinished(folder: Path) -> None:
    hook = once(fails)
    start(folder, hook)
    (lock,) = folder.rglob("*.lock")
    assert lock.read_text() == ""


def test_a_failure_that_is_warned_of_leaves_none_either(folder: Path) -> None:
    hook = once(fails, on_error="warn")
    assert [told(start(folder, hook))[0][1] for _ in range(2)] == ["warned"] * 2


def test_the_next_knows_that_one_was_cancelled_half_way(folder: Path) -> None:
    hook = once(fetch_slowly)

    async def cancelled() -> None:
        running = asyncio.create_task(work(node_task([hook], rollout=ROLLOUT), folder))
        await asyncio.sleep(1)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(cancelled())
    assert data_of(start(folder, hook)) == {"unfinished": True}
    assert CALLS == ["fetch_slowly"] * 2
    assert told(start(folder, hook)) == [("fetch_slowly", "replayed", "done by process 14137")]


@pytest.mark.parametrize("fn", [hangs_first, cleans_up_first])
def test_the_next_knows_that_one_came_to_its_time_limit(folder: Path, fn: Any) -> None:
    hook = once(fn, timeout_s=5)
    assert "still running after timeout_s=5" in str(start(folder, hook).failure)
    assert data_of(start(folder, hook)) == {"unfinished": True}


def test_a_thread_that_hangs_keeps_its_turn_until_it_has_ended(folder: Path) -> None:
    hook = once(hangs, timeout_s=0.05)

    class Waiting(NodeFolder):
        async def pause(self, seconds: float) -> None:
            waits.set()
            await super().pause(0)

    async def main() -> None:
        task = node_task([hook], rollout=ROLLOUT)
        assert "still running" in str((await work(task, folder)).failure)
        second = asyncio.create_task(work(task, folder, made=Waiting))
        await waits.wait()
        assert not second.done()
        GO_ON.set()
        assert told(await second)[0][1] == "replayed"

    waits = asyncio.Event()
    asyncio.run(main())  # the loop of the others waits for threads
    assert CALLS == ["hangs"]


def test_one_that_ends_after_its_time_limit_leaves_nothing_if_others_have_gone_on(folder: Path) -> None:
    """Its own data and that of the other hooks cannot be told apart."""

    async def main() -> None:
        late = once(ends_late, timeout_s=0.05, on_error="warn")
        await work(node_task([late, once(sets_a_port, False)], rollout=ROLLOUT), folder)
        report = await work(node_task([late], rollout=ROLLOUT), folder)
        assert told(report)[0][1] == "ok"
        assert data_of(report) == {}

    asyncio.run(main())
    assert CALLS == ["ends_late"] * 2


def test_one_whose_record_cannot_be_written_has_done_its_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def is_full(self: NodeFolder, name: str, value: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(NodeFolder, "write", is_full)
    reports = [start(folder, once(fetch)) for _ in range(2)]
    assert [told(report) for report in reports] == [[("fetch", "ok", "")]] * 2
    assert "fetch is run again by the next process on this node" in caplog.text
    assert "No space left on device" in caplog.text


def test_a_file_system_without_locks_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def has_none(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", has_none)
    failure = str(start(folder, once(fetch)).failure)
    assert "No locks available" in failure
    assert "SERVE_LLM_HOOKS_NODE_DIR" in failure


DIES = """
import os, signal, sys
from serve_llm_hooks._node.node_folder import NodeFolder
lock = NodeFolder({"SERVE_LLM_HOOKS_NODE_DIR": sys.argv[1]}).lock("name")
assert lock.acquire()
lock.note(os.getpid())
if sys.argv[2] == "forks" and os.fork() == 0:
    os._exit(0)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_its_turn_and_its_id(folder: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", DIES, str(folder), ""], check=False)
    assert killed.returncode == -9
    lock = NodeFolder({"SERVE_LLM_HOOKS_NODE_DIR": str(folder)}).lock("name")
    assert lock.acquire()
    assert lock.begun_by() is not None
    assert not NodeFolder({"SERVE_LLM_HOOKS_NODE_DIR": str(folder)}).lock("name").acquire()
    lock.note(None)
    lock.release()
    assert lock.begun_by() is None


# -- what cannot be kept ---------------------------------------------------------------------------------------------


def test_a_result_that_cannot_be_pickled_names_the_hook(folder: Path) -> None:
    for _ in range(2):
        failure = str(start(folder, once(makes_a_lock)).failure)
        assert "makes_a_lock failed at on_before_node_download" in failure
        assert "ctx.custom_data['lock'] (lock) cannot" in failure
        assert "once_per_node=" in failure
    assert len(CALLS) == 2


def test_a_result_that_is_a_mistake_is_not_kept(folder: Path) -> None:
    for _ in range(2):
        assert "it returned" in str(start(folder, once(returns_a_list)).failure)


@pytest.mark.parametrize(
    ("given", "why"),
    [("relative/folder", "it is no absolute path"), ("/proc/nowhere", "No such file or directory")],
)
def test_a_folder_that_cannot_be_used(given: str, why: str) -> None:
    failure = start(Path(given), once(fetch)).failure
    assert str(failure).startswith(
        f"the folder for what runs once per node, {given} (SERVE_LLM_HOOKS_NODE_DIR), cannot"
    )
    assert why in str(failure)
    assert "set SERVE_LLM_HOOKS_NODE_DIR to a folder on a disk of the node's own" in str(failure)
    assert CALLS == []


def test_a_folder_that_others_may_write_to(folder: Path) -> None:
    start(folder, once(fetch))
    (own,) = folder.iterdir()
    own.chmod(0o777)
    assert "is not a folder that this user alone may write to" in str(start(folder, once(fetch)).failure)
    assert len(CALLS) == 1


class Gone:
    """A class that the next version of its module does not have."""


def sets_what_will_be_gone(ctx: NodeCtx) -> None:
    CALLS.append("sets_what_will_be_gone")
    ctx.custom_data["x"] = Gone()


def test_data_that_cannot_be_read_any_more_is_brought_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hook = once(sets_what_will_be_gone, "data")
    start(folder, hook)
    with monkeypatch.context() as patch:
        patch.delitem(globals(), "Gone")
        start(folder, once(fetch, "other"))  # one that does not need it
        assert "NameError" in str(start(folder, hook).failure)
    assert "runs again on" in caplog.text
    assert len(CALLS) == 3


def test_a_record_that_cannot_be_read_is_none(folder: Path) -> None:
    start(folder, once(fetch))
    (record,) = folder.rglob("*.done")
    record.write_bytes(b"of another version")
    assert told(start(folder, once(fetch))) == [("fetch", "ok", "")]
    assert told(start(folder, once(fetch)))[0][1] == "replayed"


def test_a_system_without_file_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.getuid")  # Windows
    with pytest.raises(ServeLLMHooksError, match="once_per_node= needs the file locks of Linux or macOS"):
        NodeFolder({"SERVE_LLM_HOOKS_NODE_DIR": str(tmp_path)}).lock("name")
