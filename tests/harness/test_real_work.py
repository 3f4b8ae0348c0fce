"""Real work stops the clock for as long as it is at work; what is idle does not."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, HarnessWarning

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks import CallbackCtx
    from serve_llm_hooks_testing import FakeRun

_FOR_A_MOMENT = [sys.executable, "-c", "import time; time.sleep(0.3)"]


def start(hook: Callable[..., Any], **settings: Any) -> FakeRun:
    """Start a replica that has this hook; only what the hook waits for takes time. A busy machine gets its time."""
    settings.setdefault("real_sleep_limit_s", 30)
    hooks = HookRegistry()
    hooks.hook("on_before_init")(hook)
    return FakeCluster(1, download_s=0, engine_start_s=0, **settings).run(FakeLLMConfig("m", hooks=[hooks]))


def noted(run: FakeRun) -> Any:
    """Return what the hook left in ``custom_data``."""
    assert run.ctx is not None
    return run.ctx.custom_data["noted"]


no_warning = pytest.mark.filterwarnings("error::serve_llm_hooks_testing.HarnessWarning")


# -- subprocesses -----------------------------------------------------------------------------------------------------


@no_warning
def test_an_async_subprocess_is_waited_for_within_a_timeout() -> None:
    async def runs(ctx: CallbackCtx) -> None:
        async with asyncio.timeout(0.1):
            process = await asyncio.create_subprocess_exec(*_FOR_A_MOMENT)
            ctx.custom_data["noted"] = await process.wait()

    run = start(runs)
    assert noted(run) == 0
    assert run.elapsed_s == 0


@no_warning
def test_a_subprocess_that_a_sync_hook_waits_for_takes_no_virtual_time() -> None:
    def runs(ctx: CallbackCtx) -> None:
        done = subprocess.run([sys.executable, "-c", "print('done')"], timeout=60, check=True, capture_output=True)
        ctx.custom_data["noted"] = done.stdout.strip()

    run = start(runs)
    assert noted(run) == b"done"
    assert run.elapsed_s == 0


@no_warning
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_hook_that_polls_a_subprocess_sees_it_end_before_it_gives_up(kind: str) -> None:
    def polls(ctx: CallbackCtx) -> None:
        process = subprocess.Popen(_FOR_A_MOMENT)
        for attempt in range(3):
            if process.poll() is not None:
                ctx.custom_data["noted"] = attempt
                return
            time.sleep(0.5)
        raise TimeoutError

    async def awaits(ctx: CallbackCtx) -> None:
        process = await asyncio.create_subprocess_exec(*_FOR_A_MOMENT)
        for attempt in range(3):
            if process.returncode is not None:
                ctx.custom_data["noted"] = attempt
                return
            await asyncio.sleep(0.5)
        raise TimeoutError

    run = start(polls if kind == "sync" else awaits)
    assert run.error is None
    assert run.elapsed_s == 0.5 * noted(run)  # once, or twice where the machine is busy


@no_warning
def test_so_does_one_that_polls_a_process_of_multiprocessing() -> None:
    def polls(ctx: CallbackCtx) -> None:
        process = multiprocessing.get_context("spawn").Process(target=os.getpid)
        process.start()
        for attempt in range(3):
            if not process.is_alive():
                ctx.custom_data["noted"] = attempt
                return
            time.sleep(1)
        raise TimeoutError

    assert start(polls).error is None


def test_a_subprocess_that_never_ends_is_given_up_and_told() -> None:
    async def waits(ctx: CallbackCtx) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)")
        try:
            async with asyncio.timeout(3600):
                await process.wait()
        except TimeoutError:
            ctx.custom_data["noted"] = "too late"
        finally:
            process.kill()
            await process.wait()

    with pytest.warns(HarnessWarning, match=r"waits .* in its process \d+.*: the clock went on without an answer"):
        run = start(waits, real_sleep_limit_s=0.02)
    assert noted(run) == "too late"


@no_warning
def test_a_pool_of_processes_works() -> None:
    async def computes(ctx: CallbackCtx) -> None:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            async with asyncio.timeout(0.5):
                pid = await asyncio.get_running_loop().run_in_executor(pool, os.getpid)
            ctx.custom_data["noted"] = pid != os.getpid()
            await asyncio.sleep(100)

    run = start(computes)
    assert noted(run) is True
    assert run.elapsed_s == 100


# -- sockets ----------------------------------------------------------------------------------------------------------


@no_warning
def test_an_answer_that_takes_less_than_the_timeout_is_waited_for() -> None:
    """It takes longer than the limit, and less than ten times it."""

    async def asks(ctx: CallbackCtx) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            answer = threading.Thread(target=_answer, args=(theirs,))
            answer.start()
            async with asyncio.timeout(60):
                ctx.custom_data["noted"] = await asyncio.get_running_loop().sock_recv(ours, 10)

    run = start(asks)
    assert noted(run) == b"hello"
    assert run.elapsed_s == 0


def _answer(connection: socket.socket) -> None:
    select.select([], [], [], 0.05)
    connection.send(b"hello")


@no_warning
def test_connections_that_are_kept_open_hold_nothing() -> None:
    async def keeps_one(ctx: CallbackCtx) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            kept.append(writer)
            writer.write(await reader.read(5))

        kept: list[asyncio.StreamWriter] = []
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"hello")
        ctx.custom_data["noted"] = await reader.readexactly(5)
        await asyncio.sleep(3600)
        server.close()
        for each in (writer, *kept):
            each.close()
            await each.wait_closed()

    run = start(keeps_one, real_sleep_limit_s=0.05)
    assert noted(run) == b"hello"
    assert run.elapsed_s == 3600


# -- threads ----------------------------------------------------------------------------------------------------------


@no_warning
def test_a_thread_at_work_stops_the_clock() -> None:
    def fetches(ctx: CallbackCtx) -> None:
        fetched = list[bytes]()

        def fetch() -> None:
            fetched.append(subprocess.check_output([sys.executable, "-c", "print('done')"]))

        threading.Thread(target=fetch).start()
        for _ in range(3):
            if fetched:
                break
            time.sleep(0.1)
        ctx.custom_data["noted"] = fetched

    run = start(fetches)
    assert noted(run) == [b"done\n"]
    assert run.elapsed_s <= 0.1


@no_warning
def test_the_threads_of_asyncios_own_executor_are_idle_after_their_work() -> None:
    async def hands_over(ctx: CallbackCtx) -> None:
        ctx.custom_data["noted"] = await asyncio.to_thread(sum, (1, 2))
        await asyncio.sleep(1000)

    run = start(hands_over, real_sleep_limit_s=0.05)
    assert noted(run) == 3
    assert run.elapsed_s == 1000


_pool = ThreadPoolExecutor(1)


def _use_pool() -> int:
    return _pool.submit(sum, (1, 2)).result()


@no_warning
def test_a_pool_that_a_module_keeps_is_no_thread_left_behind() -> None:
    def uses_pool(ctx: CallbackCtx) -> None:
        ctx.custom_data["noted"] = _use_pool()

    for _ in range(2):
        assert noted(start(uses_pool)) == 3


@no_warning
def test_a_thread_that_waits_for_something_to_report_is_no_thread_left_behind() -> None:
    def counts(ctx: CallbackCtx) -> None:
        reports: queue.Queue[int] = queue.Queue()
        quick_reports: queue.SimpleQueue[int] = queue.SimpleQueue()

        def report() -> None:
            while True:
                reports.get()

        def report_quickly() -> None:
            while True:
                quick_reports.get()

        def report_now_and_then() -> None:
            while not threading.Event().wait(15):
                reports.put(1)

        threading.Thread(target=report, daemon=True).start()
        threading.Thread(target=report_quickly, daemon=True).start()
        threading.Thread(target=report_now_and_then, daemon=True).start()
        time.sleep(100)

    assert start(counts, real_sleep_limit_s=0.05).elapsed_s == 100


@no_warning
def test_a_server_of_a_hooks_own_answers_in_virtual_time() -> None:
    async def asks_itself(ctx: CallbackCtx) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(20)
            writer.write(b"an answer")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        async with asyncio.timeout(30):
            ctx.custom_data["noted"] = await reader.read()
        server.close()
        writer.close()
        await writer.wait_closed()

    run = start(asks_itself, real_sleep_limit_s=30)
    assert noted(run) == b"an answer"
    assert run.elapsed_s == 20
