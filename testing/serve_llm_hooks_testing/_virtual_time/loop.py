"""An asyncio event loop with virtual time: it advances its clock to the next timer instead of sleeping.

>>> import asyncio
>>> loop = VirtualLoop()
>>> loop.run_until_complete(asyncio.sleep(3600))
>>> loop.time()
3600.0
>>> loop.finish()

looptime and aiotools' VirtualClock patch a running loop and do not wait for worker threads, so the clock runs away
while a sync hook is at work. async-solipsism supports neither threads nor sockets. Hence a loop of our own.
"""

from __future__ import annotations

import asyncio
import heapq
import math
import selectors
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.worker_thread import WorkerThread

from .._apart.state import ApartLoop
from ..errors import DeadlockError, not_ended_within
from .abandoned import close_at_once
from .awaited import awaited_sockets
from .clock import VirtualClock
from .job import Job
from .locations import locate_awaitable, locate_frame, locate_thread
from .spinning import note_reading
from .started import pool_call
from .threads import HookThreads
from .timer import Timer
from .waiting import RealWork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor
    from contextvars import Context

    from .sleeper import Sleeper
    from .waiting import Events, OnBlock

_ASYNCIO = asyncio.BaseEventLoop.time.__code__.co_filename
# How often the loop's own thread looks whether others sleep by now, where it waits for one that is in no run.
_POLL_S = 0.002


class VirtualLoop(ApartLoop):
    """An event loop in which waiting takes no time.

    ``time()`` starts at 0 and stands still while anything is at work. When nothing is ready, it advances to the next
    timer, or to where a thread of the run wakes up that sleeps. What is at work is waited for in real time: calls in
    worker threads (``run_in_executor``), threads and subprocesses that hooks started, and sockets from which an answer
    is awaited. A timer fires before the work has ended only if the work has really taken longer than that, or more than
    ten times ``real_sleep_limit_s``; then ``given_up`` has a line for it.

    Args:
        real_sleep_limit_s: seconds of real time after which a blocking call is reported.
        time_limit_s: virtual seconds after which the run is taken for one that never ends.
        on_block: called once for each blocking call, with the hook's location and the seconds.
        on_sleep: called where a hook sleeps in the loop's own thread, likewise.

    Attributes:
        clock: the clock.
        now_s: the virtual time.
        is_busy: whether a callback is running.
        given_up: what was at work when the clock went on without it.
        never_s: the time of what is not scheduled; ``None``: then nothing will happen any more.

    Raises:
        DeadlockError: (from ``run_until_complete``) nothing is scheduled and nothing is at work, or the time is over.

    Example:
        >>> async def two_naps():
        ...     await asyncio.gather(asyncio.sleep(5), asyncio.sleep(20))
        ...     return asyncio.get_running_loop().time()
        >>> loop = VirtualLoop()
        >>> loop.run_until_complete(two_naps())
        20.0
        >>> loop.finish()
    """

    never_s: float | None = None

    def __init__(
        self,
        *,
        real_sleep_limit_s: float = 1.0,
        time_limit_s: float = math.inf,
        on_block: OnBlock | None = None,
        on_sleep: OnBlock | None = None,
    ) -> None:
        self.is_busy: bool = False
        self.clock: VirtualClock = VirtualClock(lambda: self._work.wake(), self._sleep_in_own_thread)
        self._time_limit_s = time_limit_s
        self._on_sleep = on_sleep
        selector = _VirtualSelector(self)
        self._work = RealWork(
            self.clock,
            selector.real_select,
            lambda: len(selector.get_map()) > 1,  # the loop has one of its own
            self._awaited_sockets,
            limit_s=real_sleep_limit_s,
            on_block=on_block,
            describe_waiting=self._describe_waiting,
        )
        self.given_up: list[str] = self._work.given_up
        self._hook_threads = HookThreads()
        super().__init__(selector)
        self._clock_resolution = math.ulp(0.0)

    @property
    def now_s(self) -> float:
        """The virtual time."""
        return self.clock.now_s

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        frame = sys._getframe(1)
        if frame.f_code.co_filename != _ASYNCIO:
            note_reading(self.clock, frame)
        return self.clock.now_s

    def call_at(  # type: ignore[override]  # typeshed has the same, with TypeVarTuples
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Schedule a callback. Those that are due together are called in the order in which they were scheduled."""
        self._check_closed()  # type: ignore[attr-defined]  # asyncio's own, as its heap is
        timer = Timer(self.clock.next_order(), self.clock.rounded(when), callback, args, self, context)
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]  # asyncio's own
        return timer

    def run_in_executor(  # type: ignore[override]  # typeshed has TypeVarTuples
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function in a worker thread, or in a process of a pool. The clock waits for it."""
        if isinstance(executor, WorkerThread):
            future = self.create_future()
            self._work.submit(self._hook_threads.thread_for(executor), future, func, args)
            return future
        if executor is None:
            executor = pool = getattr(self, "_default_executor", None) or ThreadPoolExecutor()
            self.set_default_executor(pool)
        job, jobs = Job(), self.clock.belongings.jobs
        if isinstance(executor, ThreadPoolExecutor):
            func = pool_call(self.clock, executor, job, func)
        jobs.add(job)
        job.future = super().run_in_executor(executor, func, *args)

        def discard(_: object) -> None:
            if job.ended or not job.started:  # where a process makes the call, nobody tells when it begins
                jobs.discard(job)

        job.future.add_done_callback(discard)
        return job.future

    def call_soon_threadsafe(  # type: ignore[override]  # typeshed has TypeVarTuples
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule a callback from another thread, and wake the loop where it waits for worker threads."""
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        self._work.wake()
        return handle

    def wait(self, timeout_s: float | None) -> Events:
        """Wait for real work, or advance the clock, where asyncio would sleep.

        Args:
            timeout_s: virtual seconds until the loop's next timer; ``None`` if there is none, 0 if a callback is ready.

        Raises:
            DeadlockError: there is nothing to wait for, or the time limit is over.
        """
        clock = self.clock
        while True:
            timer: Timer | None = self._scheduled[0] if timeout_s else None  # type: ignore[attr-defined]  # asyncio's own
            sleeper = first = clock.next_sleeper()
            if timer is not None and (sleeper is None or not sleeper.is_before(timer.when(), timer.order)):
                first = None
            next_s = first.until_s if first is not None else self.never_s if timer is None else timer.when()
            events = self._work.wait(timeout_s, next_s)
            if events is not None:
                return events
            if clock.next_sleeper() is not sleeper:  # a thread has gone to sleep meanwhile
                continue
            self.advance_to(next_s)
            if first is None or next_s is None or next_s > clock.now_s:
                return []
            first.wake(by_clock=True)

    def advance_to(self, when_s: float | None) -> None:
        """Advance the clock.

        Raises:
            DeadlockError: there is no time to which it could, or it is after the time limit.
        """
        if when_s is None:
            raise DeadlockError(self._work.deadlock_message())
        if when_s > self._time_limit_s:
            raise DeadlockError(f"{not_ended_within(self._time_limit_s)} Waiting: {self._describe_waiting()}")
        self._set_time(when_s)

    def block(self, seconds: float) -> None:
        """Block the loop for virtual seconds, as a starting engine does: what other threads do goes on."""
        self._sleep(self.clock.make_sleeper(seconds))

    def finish(self) -> None:
        """Cancel the remaining tasks and close the loop. One that does not let itself be cancelled is left as it is."""
        if self.is_closed():
            return
        self.thaw()
        tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
        self._time_limit_s = math.inf
        try:
            if tasks:
                for task in tasks:
                    task.cancel()
                self.run_until_complete(asyncio.wait(tasks, timeout=60))
            if self._asyncgens:  # type: ignore[attr-defined]  # asyncio's own; saves a task per run
                self.run_until_complete(self.shutdown_asyncgens())
        except DeadlockError:
            pass  # the run has failed with it already
        finally:
            close_at_once(self, tasks)

    def _set_time(self, when_s: float) -> None:
        self.clock.now_s = max(self.clock.now_s, when_s)
        self._clock_resolution = math.ulp(self.clock.now_s)  # a timer fires when its time has come, and not before

    def _sleep_in_own_thread(self, sleeper: Sleeper) -> None:
        """Sleep where a hook blocks the loop, and tell so. Beyond the time limit, the hook gets a ``DeadlockError``."""
        begin_s = self.clock.now_s
        if begin_s > self._time_limit_s:
            raise DeadlockError(not_ended_within(self._time_limit_s))
        self._sleep(sleeper)
        if self._on_sleep is not None:
            self._on_sleep(locate_frame(sys._getframe()), self.clock.now_s - begin_s)

    def _sleep(self, sleeper: Sleeper) -> None:
        """Let the other threads go on until a sleeper is awake."""
        clock = self.clock
        while not sleeper.is_awake:
            other = clock.next_sleeper()
            first = sleeper if sleeper.until_s is not None and (other is None or sleeper < other) else other
            self._work.wait_for_threads(sleeper, None if first is None else first.until_s)
            if first is None or first.until_s is None:
                sleeper.wait_really(_POLL_S)  # for a thread that is in no run
            elif clock.next_sleeper() is other and not sleeper.is_awake:
                self._set_time(first.until_s)
                first.wake(by_clock=True)

    def _awaited_sockets(self) -> Iterable[int]:
        """Return the descriptors of sockets that somebody may be waiting for."""
        sockets = self._selector.get_map()  # type: ignore[attr-defined]  # asyncio's own
        if len(sockets) <= 1:
            return ()
        descriptors = [fd for fd in sockets if fd != self._ssock.fileno()]  # type: ignore[attr-defined]  # asyncio's own
        return awaited_sockets(self, descriptors, [job.future for job in tuple(self.clock.belongings.jobs)])

    def _describe_waiting(self) -> str:
        """Return the hooks that wait, and at which lines."""
        loops = (self, *self.clock.belongings.loops)
        waiting = [locate_awaitable(task.get_coro()) for loop in loops for task in asyncio.all_tasks(loop)]
        waiting += [locate_awaitable(generator) for generator in self._asyncgens]  # type: ignore[attr-defined]  # asyncio's own
        waiting += [locate_thread(job.thread_id) for job in tuple(self.clock.belongings.jobs)]
        return "; ".join(sorted({str(location) for location in waiting if location is not None}) or ["the run itself"])


class _VirtualSelector(selectors.DefaultSelector):
    """The loop's selector, which lets the loop decide how to wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self.real_select = super().select

    def select(self, timeout: float | None = None) -> Events:
        self._loop.is_busy = False
        events = self._loop.wait(timeout)
        self._loop.is_busy = True
        return events


def is_loop_running() -> bool:
    """Return whether the calling thread is inside a running event loop."""
    with suppress(RuntimeError):
        return bool(asyncio.get_running_loop())
    return False
