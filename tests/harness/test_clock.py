"""Virtual time: nothing sleeps, nothing runs away, nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks._core.worker_thread import WorkerThread
from serve_llm_hooks_testing import DeadlockError, VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(real_sleep_limit_s=getattr(request, "param", 0.05))
    yield loop
    loop.finish()


def test_a_year_takes_no_time(loop: VirtualLoop) -> None:
    started_s = time.perf_counter()
    loop.run_until_complete(asyncio.sleep(365 * 86400))
    assert loop.time() == 365 * 86400
    assert time.perf_counter() - started_s < 60  # on whatever machine


def test_timers_fire_in_their_order(loop: VirtualLoop) -> None:
    seen = []

    async def nap(seconds: float) -> None:
        await asyncio.sleep(seconds)
        seen.append((seconds, loop.time()))

    async def all_naps() -> None:
        await asyncio.gather(nap(3), nap(0.1), nap(20), nap(0))

    loop.run_until_complete(all_naps())
    assert seen == [(0, 0.0), (0.1, 0.1), (3, 3.0), (20, 20.0)]


def test_timeouts_fire(loop: VirtualLoop) -> None:
    async def too_slow() -> None:
        async with asyncio.timeout(30):
            await asyncio.sleep(31)

    with pytest.raises(TimeoutError):
        loop.run_until_complete(too_slow())
    assert loop.time() == 30


@pytest.mark.parametrize("executor", [WorkerThread(), None], ids=["the core's", "asyncio's own"])
def test_the_clock_stands_still_while_a_thread_is_at_work(loop: VirtualLoop, executor: WorkerThread | None) -> None:
    async def race() -> tuple[str, float]:
        work = loop.run_in_executor(executor, time.sleep, 0.02)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1000):
                await work
                return "the thread", loop.time()
        return "the clock", loop.time()

    assert loop.run_until_complete(race()) == ("the thread", 0.0)


def test_it_stands_still_for_a_thread_whose_job_was_cancelled(loop: VirtualLoop) -> None:
    begun, done = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        time.sleep(0.02)
        done.set()

    async def cancel_and_sleep() -> bool:
        job = loop.run_in_executor(WorkerThread(), work)
        begun.wait()
        job.cancel()
        await asyncio.sleep(100)
        return done.is_set()

    assert loop.run_until_complete(cancel_and_sleep())


def test_a_cancelled_job_that_had_not_begun_does_not_run(loop: VirtualLoop) -> None:
    ran: list[int] = []
    worker = WorkerThread()

    async def main() -> None:
        first = loop.run_in_executor(worker, time.sleep, 0.02)
        loop.run_in_executor(worker, ran.append, 1).cancel()
        await first
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    assert ran == []


def test_what_a_thread_raises_arrives(loop: VirtualLoop) -> None:
    async def main() -> None:
        await loop.run_in_executor(WorkerThread(), int, "x")

    with pytest.raises(ValueError, match="invalid literal"):
        loop.run_until_complete(main())


def test_a_job_that_blocks_is_reported_and_then_the_clock_goes_on() -> None:
    told: list[float] = []
    loop = VirtualLoop(real_sleep_limit_s=0.02, on_block=lambda place, seconds: told.append(seconds))
    free = threading.Event()

    async def main() -> None:
        async with asyncio.timeout(7):
            await loop.run_in_executor(WorkerThread(), free.wait, 5)

    started_s = time.perf_counter()
    with pytest.raises(TimeoutError):
        loop.run_until_complete(main())
    assert time.perf_counter() - started_s < 4  # it would block for 5
    assert loop.time() == 7
    assert len(told) == 1
    free.set()
    loop.finish()


def test_a_slow_job_may_still_come_back(loop: VirtualLoop) -> None:
    # One jump for each limit's worth of real time: the hourly timeout is still far when the job is done.
    async def main() -> str:
        async def tick() -> None:
            while True:
                await asyncio.sleep(30)

        ticking = asyncio.ensure_future(tick())
        async with asyncio.timeout(3600):
            await loop.run_in_executor(WorkerThread(), time.sleep, 0.2)
        ticking.cancel()
        return "came back"

    assert loop.run_until_complete(main()) == "came back"


def test_a_deadlock_is_an_error_that_says_who_waits(loop: VirtualLoop) -> None:
    async def waits_for_godot() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="waits_for_godot"):
        loop.run_until_complete(waits_for_godot())


# Real waiting of this loop is not cut short on a busy machine.
with_patience = pytest.mark.parametrize("loop", [30], indirect=True, ids=["patient"])


@with_patience
def test_threads_that_answer_late_are_waited_for(loop: VirtualLoop) -> None:
    async def main() -> str:
        answer: asyncio.Future[str] = loop.create_future()
        thread = threading.Timer(0.01, lambda: loop.call_soon_threadsafe(answer.set_result, "late"))
        thread.start()
        return await answer

    assert loop.run_until_complete(main()) == "late"


@with_patience
def test_sockets_are_waited_for(loop: VirtualLoop) -> None:
    async def main() -> bytes:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            threading.Timer(0.01, lambda: theirs.send(b"hello")).start()
            async with asyncio.timeout(100):
                return await loop.sock_recv(ours, 10)

    assert loop.run_until_complete(main()) == b"hello"
    assert loop.time() == 0


@pytest.mark.parametrize("loop", [1], indirect=True)
def test_each_real_wait_has_the_limit_to_itself(loop: VirtualLoop) -> None:
    """Ten answers of a fifth of the limit each: together twice the limit, one by one well within it."""

    async def main() -> int:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        answered = 0
        with ours, theirs:
            async with asyncio.timeout(3600):
                for _ in range(10):
                    threading.Timer(0.2, lambda: theirs.send(b"x")).start()
                    answered += len(await loop.sock_recv(ours, 1))
        return answered

    assert loop.run_until_complete(main()) == 10
    assert loop.time() == 0


def test_a_socket_that_never_answers_is_no_deadlock_of_the_hooks(loop: VirtualLoop) -> None:
    async def listens() -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            await loop.sock_recv(ours, 1)

    says = r"has answered within 10 times real_sleep_limit_s \(0\.05 s.*Waiting: .*listens"
    with pytest.raises(DeadlockError, match=says):
        loop.run_until_complete(listens())


def test_a_thread_that_never_ends_is_told_as_that(loop: VirtualLoop) -> None:
    release = threading.Event()

    async def main() -> None:
        await loop.run_in_executor(WorkerThread(), release.wait)

    try:
        with pytest.raises(DeadlockError, match="at work in a thread has not ended"):
            loop.run_until_complete(main())
    finally:
        release.set()


def test_times_far_out_do_not_hang(loop: VirtualLoop) -> None:
    async def main() -> None:
        await asyncio.sleep(1e9)
        for _ in range(10):
            await asyncio.sleep(0.1)

    loop.run_until_complete(main())
    assert loop.time() == pytest.approx(1e9 + 1)


def test_finishing_cancels_what_is_left() -> None:
    loop = VirtualLoop()
    ends: list[str] = []
    tasks: list[asyncio.Task[None]] = []

    async def background() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ends.append("cancelled")

    async def main() -> None:
        tasks.append(loop.create_task(background()))  # left alone: that is what is tested
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    loop.finish()
    assert ends == ["cancelled"]


def test_a_task_that_will_not_be_cancelled_does_not_keep_it(loop: VirtualLoop) -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    tasks: list[asyncio.Task[None]] = []

    async def main() -> None:
        tasks.append(loop.create_task(stubborn()))
        await asyncio.sleep(0)

    loop.run_until_complete(main())
    loop.finish()
