"""Virtual time: an asyncio event loop that jumps to the next timer instead of sleeping.

>>> import asyncio
>>> loop = VirtualLoop()
>>> loop.run_until_complete(asyncio.sleep(3600))
>>> loop.time()
3600.0
>>> loop.finish()

Why a loop of our own: looptime and aiotools' VirtualClock patch a running loop and know nothing of worker threads,
so their clock runs away while a sync hook is at work; async-solipsism has no threads and no sockets at all. What is
needed fits on two pages: a selector that jumps where asyncio's would sleep, and a list of the jobs in threads.
"""

from __future__ import annotations

import asyncio
import queue
import selectors
import threading
import time
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.worker_thread import WorkerThread

from .errors import DeadlockError
from .frames import Place, place_of_awaiting, place_of_thread
from .threads import HookThread, Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor
    from contextvars import Context

__all__ = ["VirtualLoop"]

# A job that blocks for this many limits is waited for no longer: the clock then runs as if it never came back.
_PATIENCE = 10
# Timers closer than this count as due together: virtual times are sums of floats.
_RESOLUTION_S = 1e-6
# In so many slices a limit is waited for, and so often a job gets it again that is in no hook when it is over.
_SLICES = 8
_DOUBTS = 3
# Jobs in threads and sockets at once: how long one is waited for before the other is looked at.
_SLICE_S = 0.002

_Events = list[tuple[selectors.SelectorKey, int]]


class _Job:
    """One call in a worker thread. It holds the clock until it has ended and its caller has been told."""

    __slots__ = (
        "blocked_s", "doubts", "ended", "error", "future", "hook_thread", "reported", "result", "started", "thread_id",
    )  # fmt: skip

    def __init__(self, hook_thread: HookThread | None) -> None:
        self.hook_thread = hook_thread  # none: somebody else's executor
        self.future: asyncio.Future[Any] | None = None
        self.result: Any = None
        self.error: BaseException | None = None
        self.blocked_s = 0.0  # as far as this machine has let it run: `_wait_in_slices`
        self.doubts = 0
        self.started = False
        self.ended = False
        self.reported = False
        self.thread_id = 0


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time.

    ``time()`` starts at 0 and stands still while anything is at work; when nothing is ready it jumps to the next
    timer. It never jumps over a job in a worker thread (``run_in_executor``), a thread that was started from within
    or a socket that is waited for, unless they take longer than ``real_sleep_limit_s`` of real time: then the clock
    goes on, so that a hook's ``timeout_s`` fires as in production. A job that takes longer is reported at once; of
    sockets and threads, which may be idle, ``given_up`` tells, for whoever asks why a start failed.

    Args:
        real_sleep_limit_s: seconds of real time after which a blocking call is reported.
        on_block: told, once for each blocking call, who blocks and for how long.

    Raises:
        DeadlockError: (from ``run_until_complete``) nothing is scheduled and nothing is at work.

    Example:
        >>> async def two_naps():
        ...     await asyncio.gather(asyncio.sleep(5), asyncio.sleep(20))
        ...     return asyncio.get_running_loop().time()
        >>> loop = VirtualLoop()
        >>> loop.run_until_complete(two_naps())
        20.0
        >>> loop.finish()
    """

    def __init__(
        self,
        *,
        real_sleep_limit_s: float = 1.0,
        on_block: Callable[[Place | None, float], None] | None = None,
    ) -> None:
        self.now_s: float = 0.0
        self.awake_since_s: float | None = None
        """Since when callbacks have been running, in real seconds: the harness looks for async hooks that block."""
        self.threads: list[threading.Thread] = []
        """Threads that hooks started themselves; the harness adds them."""
        self._limit_s = real_sleep_limit_s
        self._on_block = on_block
        self._jobs: set[_Job] = set()
        self._leases = Leases()
        # What other threads tell this one: a job that has ended, or only (None) to look at what is ready. asyncio
        # is woken through a socket; a queue takes a quarter of the time, and there are two wakings per hook point.
        self._news: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # For sockets and threads that no job stands for: since they were last heard of, and all in all.
        self._patience_s = real_sleep_limit_s
        self._all_patience_s = _PATIENCE * real_sleep_limit_s
        self.given_up: list[str] = []
        """Where real input and output was waited for when the clock went on without it."""
        self._jumping = _JumpingSelector(self)
        super().__init__(self._jumping)
        self._clock_resolution = _RESOLUTION_S

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.now_s

    def run_in_executor(  # type: ignore[override]  # typeshed has the same, with TypeVarTuples
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a call in a thread; the clock waits for it."""
        if isinstance(executor, WorkerThread):
            return self._run_in_hook_thread(self._leases.thread_for(executor), func, args)
        job = _Job(None)

        def tracked() -> Any:
            job.thread_id, job.blocked_s, job.started = threading.get_ident(), 0.0, True
            try:
                return func(*args)
            finally:
                self._news.put(job)

        def told(_: object) -> None:
            if job.ended or not job.started:
                self._jobs.discard(job)

        self._jobs.add(job)
        job.future = super().run_in_executor(executor, tracked)
        job.future.add_done_callback(told)
        return job.future

    def call_soon_threadsafe(  # type: ignore[override]  # as above
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As asyncio's, and wakes us where we wait for jobs."""
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        self._news.put(None)
        return handle

    def finish(self) -> None:
        """Cancel what is left, and close. What does not let itself be cancelled is left behind."""
        if self.is_closed():
            return
        tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
        try:
            if tasks:
                for task in tasks:
                    task.cancel()
                self.run_until_complete(asyncio.wait(tasks, timeout=60))
            if self._asyncgens:  # type: ignore[attr-defined]  # asyncio's own; spares a task per run
                self.run_until_complete(self.shutdown_asyncgens())
        except DeadlockError:
            pass  # the run has been told already
        finally:
            self._leases.finish()
            self.close()

    # -- jobs -------------------------------------------------------------------------------------------------------

    def _run_in_hook_thread(
        self, thread: HookThread, func: Callable[..., Any], args: tuple[Any, ...]
    ) -> asyncio.Future[Any]:
        job = _Job(thread)
        job.future = future = self.create_future()
        news = self._news

        def call() -> None:
            if not future.cancelled():
                job.thread_id, job.blocked_s = threading.get_ident(), 0.0
                try:
                    job.result = func(*args)
                except BaseException as error:  # whatever it is, the one who waits decides
                    job.error = error
            news.put(job)

        self._jobs.add(job)
        thread.jobs += 1
        thread.calls.put(call)
        return future

    def _take_news(self, job: _Job | None) -> None:
        """A job has ended: tell who waits for it."""
        if job is None:
            return
        job.ended = True
        future = job.future
        if job.hook_thread is None:
            if future is not None and future.done():
                self._jobs.discard(job)
            return
        self._jobs.discard(job)
        job.hook_thread.jobs -= 1
        if future is None or future.done():
            return
        if job.error is not None:
            future.set_exception(job.error)
        else:
            future.set_result(job.result)

    # -- waiting ----------------------------------------------------------------------------------------------------

    def wait(self, timeout_s: float | None) -> _Events:
        """Where asyncio would sleep: let real work go on, or jump.

        Raises:
            DeadlockError: there is nothing to wait for.
        """
        news, poll = self._news, self._jumping.real.select
        if not news.empty():
            while not news.empty():
                self._take_news(news.get())
            self._patience_s = self._limit_s
            return poll(0)
        if timeout_s == 0:
            return poll(0) if self._others() else []
        if self._jobs:
            if not self._wait_for_jobs(may_jump=timeout_s is not None):
                return poll(0)
        elif (timeout_s is None or self._others()) and (events := self._wait_for_others()):
            return events
        if timeout_s is None:
            raise DeadlockError(self._who_waits())
        self.now_s = round(self.now_s + timeout_s, 9)
        return []

    def _wait_for_others(self) -> _Events:
        """Wait in real time for what no job stands for. Nothing: it is waited for no longer, or there is nothing."""
        while self._patience_s > 0 and self._all_patience_s > 0:
            slice_s = self._limit_s / _SLICES  # charged as it was meant to be: see `_wait_in_slices`
            events = self._jumping.real.select(slice_s)
            self._all_patience_s -= slice_s
            if events:
                self._patience_s = self._limit_s
                return events
            self._patience_s -= slice_s
            if self._patience_s <= 0 and self._others():
                self.given_up.append(self._waiting())
        return []

    def _wait_for_jobs(self, *, may_jump: bool) -> bool:
        """Wait for threads in real time. Gives whether the clock may jump although they are still at work."""
        fresh = [job for job in self._jobs if not job.reported]
        if fresh:
            wait_s = self._limit_s - max(job.blocked_s for job in fresh)
        elif any(job.blocked_s < _PATIENCE * self._limit_s for job in self._jobs):
            wait_s = self._limit_s  # one jump for each limit's worth: what takes a while may still come back
        else:
            return True
        if self._wait_in_slices(max(wait_s, 0.001)):
            return False
        for job in fresh:
            if job.blocked_s < self._limit_s - _RESOLUTION_S:
                continue
            place = place_of_thread(job.thread_id)
            if place is None and job.doubts < _DOUBTS:  # in no hook: it may be about to begin, or to end
                job.doubts += 1
                job.blocked_s = 0.0
                continue
            job.reported = True
            if self._on_block is not None:
                self._on_block(place, job.blocked_s)
        return may_jump and all(job.reported for job in self._jobs)

    def _wait_in_slices(self, seconds: float) -> bool:
        """Wait for news, and charge the jobs for it: for no more than was asked for.

        Where a slice takes longer, this thread was kept from running by a busy machine, and so were theirs.
        """
        while seconds > 0:
            slice_s = min(seconds, self._limit_s / _SLICES)
            begun_s = time.perf_counter()
            news = self._news_within(slice_s)
            waited_s = min(time.perf_counter() - begun_s, slice_s)
            for job in self._jobs:
                job.blocked_s += waited_s
            if news:
                return True
            seconds -= slice_s
        return False

    def _news_within(self, seconds: float) -> bool:
        """Wait for news from threads, or from sockets where there are any."""
        deadline_s = time.perf_counter() + seconds
        while (left_s := deadline_s - time.perf_counter()) > 0:
            sockets = self._sockets()
            try:
                self._take_news(self._news.get(timeout=min(left_s, _SLICE_S) if sockets else left_s))
            except queue.Empty:
                if sockets and self._jumping.real.select(0):
                    return True
            else:
                return True
        return False

    def _sockets(self) -> bool:
        return len(self._jumping.real.get_map()) > 1  # the one is the loop's own

    def _others(self) -> bool:
        """Whether something may still happen that no job and no timer stands for."""
        return self._sockets() or any(thread.is_alive() for thread in self.threads)

    def _who_waits(self) -> str:
        if self._jobs:
            why = f"what is at work in a thread has not ended after {_PATIENCE} times real_sleep_limit_s"
        elif self._others():
            why = "no socket, subprocess or thread that is waited for has answered within real_sleep_limit_s"
        else:
            why = "nothing is at work, so in production this start would hang for ever"
        if self._jobs or self._others():
            why += f" ({self._limit_s:g} s of real time), so the test waits no longer"
        return f"nothing is scheduled and {why}. Waiting: {self._waiting()}"

    def _waiting(self) -> str:
        waiting = [place_of_awaiting(task.get_coro()) for task in asyncio.all_tasks(self)]
        waiting += [place_of_awaiting(generator) for generator in self._asyncgens]  # type: ignore[attr-defined]
        waiting += [place_of_thread(job.thread_id) for job in self._jobs]
        places = [str(place) for place in waiting if place is not None] or ["the run itself"]
        return "; ".join(sorted(set(places)))


class _JumpingSelector(selectors.BaseSelector):
    """What the loop asks for events, and how long to sleep until then."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.real = selectors.DefaultSelector()
        self._loop = loop

    def select(self, timeout: float | None = None) -> _Events:
        self._loop.awake_since_s = None
        events = self._loop.wait(timeout)
        self._loop.awake_since_s = time.perf_counter()
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self.real.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self.real.get_key(fileobj)

    def close(self) -> None:
        self.real.close()
