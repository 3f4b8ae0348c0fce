"""Each process of a run has its own state to itself, although all of them run in the test's process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from unittest import mock

import pytest

from serve_llm_hooks import HookError, HookRegistry, NodeInitializationError
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    call_hook,
    callback_ctx,
    failing_download,
    node_ctx,
    replica_dies,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serve_llm_hooks import CallbackCtx, NodeCtx
    from serve_llm_hooks_testing import FakeRun


COLLECTED_MEANWHILE = """
import gc, threading
from serve_llm_hooks_testing._apart.thread_data import ThreadData, forget_thread_data

def work():
    for _ in range(300):
        for _ in range(50):
            local = threading.local()
            local.cycle = [local]
        ThreadData().restore()
        forget_thread_data()

gc.set_threshold(50, 2, 2)
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def start(*hooks: tuple[str, Callable[..., Any]], config: dict[str, Any] | None = None, **settings: Any) -> FakeRun:
    """Start a replica that has these hooks, each at its point; only what they wait for takes time."""
    registry = HookRegistry()
    decorate: Any = registry.hook
    for point, hook in hooks:
        decorate(point)(hook)
    check = settings.pop("check", True)
    settings = {"nodes": 1, "download_s": 0, "engine_start_s": 0, **settings}
    return FakeCluster(**settings).run(FakeLLMConfig("m", hooks=[registry], **(config or {})), check=check)


def noted(run: FakeRun) -> dict[str, Any]:
    """Return what hooks left in the replica's ``custom_data``."""
    assert run.ctx is not None
    return run.ctx.custom_data


def noted_on(run: FakeRun) -> list[dict[str, Any]]:
    """Return what hooks left in ``custom_data`` on each node."""
    assert run.ctx is not None
    return [node.custom_data for node in run.ctx.nodes.values()]


# -- thread-local data and context ------------------------------------------------------------------------------------

_local = threading.local()


def _of_thread(ctx: Any) -> None:
    ctx.custom_data["seen"] = getattr(_local, "value", None)
    _local.value = "left behind"


async def _of_loops_thread(ctx: Any) -> None:
    _of_thread(ctx)


@pytest.mark.parametrize("hook", [_of_thread, _of_loops_thread], ids=["sync", "async"])
@pytest.mark.parametrize("point", ["on_before_init", "on_before_node_download"])
def test_thread_local_data_of_an_earlier_run_is_not_seen(point: str, hook: Any) -> None:
    for _ in range(3):
        run = start((point, hook))
        assert (noted(run) if point == "on_before_init" else noted_on(run)[0]) == {"seen": None}


@pytest.mark.parametrize("hook", [_of_thread, _of_loops_thread], ids=["sync", "async"])
def test_thread_local_data_of_a_replica_that_died_is_not_seen(hook: Any) -> None:
    run = start(("on_before_init", hook), faults=[replica_dies(at="on_before_init", times=2)])
    assert len(run.earlier_starts) == 2
    assert noted(run) == {"seen": None}


def test_a_hook_in_the_loops_thread_finds_what_its_module_has_set_there() -> None:
    _local.value = "set where it was imported"
    try:
        assert noted(start(("on_before_init", _of_loops_thread))) == {"seen": "set where it was imported"}
    finally:
        del _local.value


def test_an_event_loop_that_a_hook_has_set_is_not_seen_by_the_next_run() -> None:
    def sets_a_loop(ctx: CallbackCtx) -> None:
        policy = asyncio.get_event_loop_policy()
        ctx.custom_data["seen"] = getattr(policy._local, "_loop", None)  # type: ignore[attr-defined]  # asyncio's own
        loop = asyncio.new_event_loop()
        loop.close()
        asyncio.set_event_loop(loop)

    async def in_the_loops_thread(ctx: CallbackCtx) -> None:
        sets_a_loop(ctx)

    for hook in (sets_a_loop, sets_a_loop, in_the_loops_thread, in_the_loops_thread):
        assert noted(start(("on_before_init", hook))) == {"seen": None}


# -- asyncio's locks --------------------------------------------------------------------------------------------------

_lock = asyncio.Lock()
_semaphore = asyncio.BoundedSemaphore(2)
_event = asyncio.Event()
_queue: asyncio.Queue[int] = asyncio.Queue()


async def _contend(lock: Any, count: int) -> float:
    """Let so many tasks hold a lock for a second each; return how long that took."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()

    async def hold() -> None:
        async with lock:
            await asyncio.sleep(1)

    await asyncio.gather(*(hold() for _ in range(count)))
    return loop.time() - begun_s


@pytest.mark.parametrize(("lock", "seconds"), [(_lock, 4), (_semaphore, 2)], ids=["Lock", "BoundedSemaphore"])
def test_a_modules_lock_serves_one_run_after_another(lock: Any, seconds: float) -> None:
    async def contend(ctx: CallbackCtx) -> None:
        ctx.custom_data["took"] = await _contend(lock, 4)

    for _ in range(3):
        assert noted(start(("on_before_init", contend))) == {"took": seconds}
    assert asyncio.run(_contend(lock, 1)) >= 1  # and the test itself, afterwards


def test_nodes_do_not_wait_for_each_other_at_a_modules_lock() -> None:
    async def hold(ctx: NodeCtx) -> None:
        async with _lock:
            await asyncio.sleep(10)

    assert start(("on_before_node_download", hold), nodes=3).elapsed_s == 10


@pytest.mark.parametrize("lock", [_lock, _semaphore], ids=["Lock", "BoundedSemaphore"])
def test_a_lock_that_a_dead_replica_held_is_free_in_the_next(lock: Any) -> None:
    async def acquire(ctx: CallbackCtx) -> None:
        for _ in range(1 if lock is _lock else 2):
            await lock.acquire()
        ctx.custom_data["locked"] = lock.locked()

    for _ in range(2):
        run = start(("on_before_init", acquire), faults=[replica_dies(at="on_before_download")])
        assert noted(run) == {"locked": True}
    assert not lock.locked()


def test_a_semaphore_is_released_as_often_as_it_was_acquired() -> None:
    async def releases_once_more(ctx: CallbackCtx) -> None:
        await _semaphore.acquire()
        _semaphore.release()
        _semaphore.release()

    with pytest.raises(HookError, match="released too many times"):
        start(("on_before_init", releases_once_more))


def test_a_modules_event_and_queue_serve_one_run_after_another() -> None:
    async def waits(ctx: CallbackCtx) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(1, _event.set)
        loop.call_later(2, _queue.put_nowait, 7)
        await _event.wait()
        ctx.custom_data["got"] = await _queue.get()
        _event.clear()

    for _ in range(3):
        run = start(("on_before_init", waits))
        assert noted(run) == {"got": 7}
        assert run.elapsed_s == 2


def test_a_condition_that_is_made_in_a_hook_works() -> None:
    async def waits(ctx: CallbackCtx) -> None:
        condition = asyncio.Condition()

        async def notify() -> None:
            async with condition:
                condition.notify_all()

        async with condition:
            asyncio.get_running_loop().call_later(3, lambda: tasks.append(asyncio.ensure_future(notify())))
            await condition.wait()

    tasks: list[Any] = []
    assert start(("on_before_init", waits)).elapsed_s == 3


# -- signals and the main thread --------------------------------------------------------------------------------------


def _set_signal(ctx: Any) -> None:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


async def _set_signal_async(ctx: Any) -> None:
    _set_signal(ctx)


async def _add_handler(ctx: Any) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)


@pytest.mark.parametrize("hook", [_set_signal, _set_signal_async], ids=["sync", "async"])
def test_a_replicas_hook_cannot_set_a_signal_handler(hook: Any) -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with pytest.raises(HookError, match="signal only works in main thread of the main interpreter") as raised:
        start(("on_before_init", hook))
    assert type(raised.value.__cause__) is ValueError
    assert signal.getsignal(signal.SIGUSR1) == before


def test_a_replicas_loop_takes_no_signal_handler() -> None:
    with pytest.raises(HookError, match="set_wakeup_fd only works in main thread of the main interpreter") as raised:
        start(("on_before_init", _add_handler))
    assert type(raised.value.__cause__) is RuntimeError


def test_a_nodes_async_hook_may_set_a_signal_handler_until_its_task_ends() -> None:
    before = signal.getsignal(signal.SIGUSR1)

    async def sets(ctx: NodeCtx) -> None:
        signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0)
        ctx.custom_data["received"] = list(received)

    received: list[int] = []
    run = start(("on_before_node_download", sets), ("on_before_node_download", _add_handler))
    assert noted_on(run) == [{"received": [signal.SIGUSR1]}]
    assert signal.getsignal(signal.SIGUSR1) == before


def test_in_an_async_test_a_nodes_hook_may_set_one_too() -> None:
    registry = HookRegistry()
    registry.hook("on_before_node_download")(_set_signal_async)
    asyncio.run(FakeCluster().arun(FakeLLMConfig("m", hooks=[registry])))


def test_a_nodes_sync_hook_is_not_in_the_main_thread() -> None:
    with pytest.raises(NodeInitializationError, match="signal only works in main thread"):
        start(("on_before_node_download", _set_signal))


async def _is_in_main_thread(ctx: Any) -> None:
    ctx.custom_data["main"] = threading.current_thread() is threading.main_thread()


def test_who_asks_whether_it_is_in_the_main_thread_is_told_as_in_production() -> None:
    run = start(("on_before_init", _is_in_main_thread), ("on_before_node_download", _is_in_main_thread))
    assert noted(run) == {"main": False}
    assert noted_on(run) == [{"main": True}]
    assert threading.current_thread() is threading.main_thread()


def test_a_hook_that_is_called_alone_is_in_the_thread_of_its_kind() -> None:
    ctx, on_node = callback_ctx(), node_ctx()
    call_hook(_is_in_main_thread, ctx, point="on_before_init")
    call_hook(_is_in_main_thread, on_node, point="on_before_node_download")
    assert (ctx.custom_data, on_node.custom_data) == ({"main": False}, {"main": True})


# -- the environment --------------------------------------------------------------------------------------------------

VARIABLES = {"runtime_env": {"env_vars": {"FROM_CONFIG": "config", "BOTH": "config"}}}


def _look(ctx: Any) -> None:
    names = ("FROM_CONFIG", "FROM_HOOK", "BOTH", "FROM_TEST")
    ctx.custom_data["seen"] = [os.environ.get(name) for name in names]


def _change(ctx: CallbackCtx) -> None:
    assert ctx.runtime_env is not None
    ctx.runtime_env["env_vars"].update(FROM_HOOK="hook", BOTH="hook")


def test_variables_of_the_runtime_env_are_there_where_ray_gives_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_TEST", "test")
    monkeypatch.setenv("BOTH", "test")
    hooks = (("on_before_init", _change), ("on_before_init", _look), ("on_before_node_download", _look))
    run = start(*hooks, config=VARIABLES)
    assert noted(run)["seen"] == ["config", None, "config", "test"]
    assert noted_on(run)[0]["seen"] == ["config", "hook", "hook", "test"]
    outside = start(*hooks, config=VARIABLES, in_group=False)  # of Serve, which would have started the replica
    assert noted(outside)["seen"] == [None, None, "test", "test"]
    assert noted_on(outside)[0]["seen"] == ["config", "hook", "hook", "test"]
    assert "FROM_CONFIG" not in os.environ


def test_what_a_node_writes_into_its_environment_no_other_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FROM_TEST", "test")

    async def write(ctx: NodeCtx) -> None:
        os.environ["WRITTEN"] = ctx.node_id
        del os.environ["FROM_TEST"]
        await asyncio.sleep(1)
        ctx.custom_data["written"] = os.environ["WRITTEN"]
        ctx.custom_data["gone"] = "FROM_TEST" not in os.environ and "FROM_TEST" not in list(os.environ)

    def look(ctx: CallbackCtx) -> None:
        ctx.custom_data["replica"] = (os.environ.get("WRITTEN"), os.environ.get("FROM_TEST"))

    run = start(("on_before_node_download", write), ("on_after_download", look), nodes=2)
    assert [(node["written"], node["gone"]) for node in noted_on(run)] == [("node-0", True), ("node-1", True)]
    assert noted(run)["replica"] == (None, "test")
    assert "WRITTEN" not in os.environ


def test_what_the_replica_writes_the_test_sees_and_nodes_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for what the config sets: that is the replica's own."""
    monkeypatch.delenv("WRITTEN", raising=False)
    monkeypatch.setenv("BOTH", "test")

    def write(ctx: CallbackCtx) -> None:
        os.environ["WRITTEN"] = os.environ["FROM_CONFIG"] = "replica"
        ctx.custom_data["seen"] = (os.environ["WRITTEN"], os.environ["FROM_CONFIG"], len(os.environ) > 2)
        with mock.patch.dict(os.environ, {"FROM_CONFIG": "patched"}):  # which writes all others again
            ctx.custom_data["patched"] = (os.environ["FROM_CONFIG"], os.environ["BOTH"])
        del os.environ["FROM_CONFIG"]
        ctx.custom_data["gone"] = "FROM_CONFIG" not in os.environ and "FROM_CONFIG" not in dict(os.environ)

    def look(ctx: NodeCtx) -> None:
        ctx.custom_data["node"] = (os.environ.get("WRITTEN"), os.environ.get("FROM_CONFIG"))

    run = start(("on_before_init", write), ("on_before_node_download", look), config=VARIABLES)
    assert noted(run)["seen"] == ("replica", "replica", True)
    assert noted(run)["patched"] == ("patched", "config")
    assert noted(run)["gone"]
    assert noted_on(run)[0]["node"] == (None, "config")
    assert [os.environ.get(name) for name in ("WRITTEN", "FROM_CONFIG", "BOTH")] == ["replica", None, "test"]
    assert subprocess.check_output("echo $WRITTEN-$FROM_CONFIG-$BOTH", shell=True, text=True) == "replica--test\n"
    del os.environ["WRITTEN"]  # monkeypatch would put it back


def test_threads_pools_and_subprocesses_of_a_nodes_hook_have_its_variables() -> None:
    def look(ctx: NodeCtx) -> None:
        seen: list[str | None] = []
        thread = threading.Thread(target=lambda: seen.append(os.environ.get("FROM_CONFIG")))
        thread.start()
        thread.join()
        code = "import os; print(os.environ.get('FROM_CONFIG'))"
        seen.append(subprocess.check_output([sys.executable, "-Sc", code], text=True).strip())
        ctx.custom_data["seen"] = seen

    async def in_a_pool(ctx: NodeCtx) -> None:
        loop = asyncio.get_running_loop()
        ctx.custom_data["pool"] = await loop.run_in_executor(None, os.environ.get, "FROM_CONFIG")

    run = start(("on_before_node_download", look), ("on_before_node_download", in_a_pool), config=VARIABLES)
    assert noted_on(run) == [{"seen": ["config", "config"], "pool": "config"}]


def test_hooks_at_the_end_of_a_replica_are_in_its_process() -> None:
    async def stop(ctx: CallbackCtx) -> None:
        _look(ctx)
        with pytest.raises(ValueError, match="main thread"):
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    run = start(("on_shutdown", stop), config=VARIABLES)
    assert run.shut_down() == ()
    assert noted(run)["seen"][0] == "config"


# -- what a node leaves behind ----------------------------------------------------------------------------------------

# Of this module, and not of a test: what a test's own function holds travels to nodes as a copy.
_seen: list[Any] = []
_left: list[Any] = []
_stop = threading.Event()


@pytest.fixture(autouse=True)
def nothing_seen() -> Iterator[None]:
    _seen.clear()
    _left.clear()
    _stop.clear()
    yield
    _stop.set()


async def _sleep_and_tell(ctx: CallbackCtx) -> None:
    await asyncio.sleep(60)
    ctx.custom_data["seen"] = list(_seen)


async def _tick_and_clean_up() -> None:
    loop = asyncio.get_running_loop()
    try:
        while True:
            await asyncio.sleep(1)
            _seen.append(loop.time())
    except asyncio.CancelledError:
        await asyncio.sleep(0.5)
        _seen.append("clean")
        await asyncio.sleep(100)
        _seen.append("never")


async def _leave_a_task(ctx: NodeCtx) -> None:
    _left.append(asyncio.create_task(_tick_and_clean_up()))
    await asyncio.sleep(3.5)


def test_a_nodes_tasks_end_with_its_task() -> None:
    run = start(("on_before_node_download", _leave_a_task), ("on_after_download", _sleep_and_tell))
    assert noted(run) == {"seen": [1, 2, 3, "clean"]}
    assert run.elapsed_s == 3.5 + 1 + 60  # the report waits a second for tasks that are cancelled, as in production
    assert run.notes == ()


def _tick_in_thread() -> None:
    begun_s = time.monotonic()
    while True:
        time.sleep(1)
        _seen.append(round(time.monotonic() - begun_s))


def _leave_thread(function: Callable[[], None], *, daemon: bool) -> None:
    thread = threading.Thread(target=function, daemon=daemon)
    _left.append(thread)
    thread.start()


def _leave_a_daemon(ctx: NodeCtx) -> None:
    _leave_thread(_tick_in_thread, daemon=True)
    time.sleep(3.5)


def _leave_no_daemon(ctx: NodeCtx) -> None:
    _leave_thread(_tick_in_thread, daemon=False)
    time.sleep(3.5)


def _leave_one_that_ends_and_a_daemon(ctx: NodeCtx) -> None:
    _leave_thread(_tick_in_thread, daemon=True)
    _leave_thread(lambda: time.sleep(5.5), daemon=False)


@pytest.mark.parametrize(
    ("hook", "ticks"),
    [(_leave_a_daemon, 3), (_leave_no_daemon, 13), (_leave_one_that_ends_and_a_daemon, 5)],
    ids=["a daemon", "no daemon: ten seconds, as in production", "until the last ends that is none"],
)
def test_a_nodes_threads_end_with_its_process(hook: Any, ticks: int) -> None:
    run = start(("on_before_node_download", hook), ("on_after_download", _sleep_and_tell))
    for thread in _left:
        thread.join()
    assert noted(run) == {"seen": list(range(1, 1 + ticks))}
    assert run.notes == ()


async def _beat() -> None:
    while True:
        await asyncio.sleep(1)


def _run_a_loop() -> None:
    try:
        asyncio.run(_beat())
    finally:
        _seen.append("ended")


def _wait_for_ever() -> None:
    try:
        threading.Event().wait()
    finally:
        _seen.append("ended")


def _leave_one_that_waits(ctx: NodeCtx) -> None:
    _leave_thread(_wait_for_ever, daemon=True)


def _leave_one_with_a_loop(ctx: NodeCtx) -> None:
    _leave_thread(_run_a_loop, daemon=True)


@pytest.mark.parametrize("hook", [_leave_one_that_waits, _leave_one_with_a_loop])
def test_whatever_a_nodes_thread_waits_for_it_ends(hook: Any) -> None:
    run = start(("on_before_node_download", hook), ("on_after_download", _sleep_and_tell))
    _left[0].join()
    assert noted(run) == {"seen": ["ended"]}


def _work_on_whatever_happens() -> None:
    while not _stop.is_set():
        with contextlib.suppress(BaseException):
            time.sleep(1)
            _seen.append("works on")


def _leave_one_that_catches_everything(ctx: NodeCtx) -> None:
    _leave_thread(_work_on_whatever_happens, daemon=True)


def test_a_thread_that_does_not_end_with_its_node_waits_for_the_runs_end() -> None:
    run = start(("on_before_node_download", _leave_one_that_catches_everything), ("on_after_download", _sleep_and_tell))
    _stop.set()
    _left[0].join()
    assert noted(run) == {"seen": []}
    assert run.notes == ()


async def _catch_everything(ctx: NodeCtx) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(10):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            continue
        finally:
            _seen.append(loop.time())


def test_a_node_that_is_cancelled_has_three_seconds_and_no_more() -> None:
    run = start(
        ("on_after_node_download", _catch_everything),
        ("on_failure", _sleep_and_tell),
        nodes=2,
        node_grace_s=2.5,
        faults=[failing_download("node-0", after_s=0)],
        check=False,
    )
    assert run.error is not None
    assert noted(run) == {"seen": [1, 2, 2.5, 3.5, 4.5]}  # cancelled at 2.5, killed at 5.5
    assert run.elapsed_s == 5.5 + 60


async def _tick(start: str) -> None:
    try:
        while True:
            await asyncio.sleep(1)
            _seen.append(f"task {start}")
    finally:
        _seen.append(f"clean-up {start}")


async def _leave_both(ctx: CallbackCtx) -> None:
    number = len(_left) + 1

    def tick_in_thread() -> None:
        while not _stop.wait(1):
            _seen.append(f"thread {number}")

    _left.append(asyncio.create_task(_tick(str(number))))
    threading.Thread(target=tick_in_thread, daemon=True).start()
    await asyncio.sleep(2.5)
    ctx.custom_data["seen"] = sorted(_seen)


def test_a_replica_that_dies_takes_its_threads_and_tasks_along() -> None:
    run = start(("on_before_init", _leave_both), faults=[replica_dies(at="on_before_init", restart_s=10)])
    assert noted(run) == {"seen": sorted(2 * ["task 1", "thread 1", "task 2", "thread 2"])}
    assert run.elapsed_s == 2.5 + 10 + 2.5


# -- what must still reach hooks --------------------------------------------------------------------------------------


def test_an_interrupt_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    async def interrupts(ctx: CallbackCtx) -> None:
        loop = asyncio.get_running_loop()
        loop.call_soon(os.kill, os.getpid(), signal.SIGINT)
        await asyncio.sleep(1000)

    with pytest.raises(KeyboardInterrupt):
        start(("on_before_init", interrupts))
    assert start().error is None


def test_thread_local_data_may_be_collected_while_it_is_read() -> None:
    """In a process of its own: this was a segmentation fault."""
    done = subprocess.run([sys.executable, "-c", COLLECTED_MEANWHILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
