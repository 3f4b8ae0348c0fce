"""Real work that virtual time waits for: calls in worker threads, sockets, and threads that hooks started."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from .locations import HookLocation, locate_thread

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from selectors import SelectorKey

    from .threads import HookThread

    Events: TypeAlias = list[tuple[SelectorKey, int]]
    OnBlock: TypeAlias = Callable[[HookLocation | None, float], None]

# A job is waited for this many limits. After that the clock runs as if it never came back.
_MAX_LIMITS = 10
# A limit is waited for in this many slices. A job that is in no hook when it is over gets it again, this often.
_SLICES = 8
_EXTRA_LIMITS = 3
# How long jobs in threads are waited for before the sockets are polled, where there are both.
_POLL_S = 0.002
_RESOLUTION_S = 1e-6


@dataclass(eq=False, slots=True)
class Job:
    """A call in a worker thread. The clock stands still until it has ended and its future is done."""

    thread: HookThread | None = None  # none: the thread of an executor that is not the core's
    thread_id: int = 0
    future: asyncio.Future[Any] | None = None
    result: Any = None
    error: BaseException | None = None
    blocked_s: float = 0.0
    extra_limits: int = 0
    started: bool = False
    ended: bool = False
    reported: bool = False

    def start(self) -> None:
        """Note that the calling thread begins the call."""
        self.thread_id, self.blocked_s, self.started = threading.get_ident(), 0.0, True


class RealWork:
    """The real work of one event loop, and how long the loop waits for it.

    Args:
        poll: returns the sockets that are ready, after at most this many seconds.
        has_sockets: returns whether there are sockets to wait for.
        limit_s: seconds of real time after which a job is reported, and other work is waited for no longer.
        on_block: called once for each job that takes longer, with its hook's location and the seconds.
        describe_waiting: returns what the loop's tasks wait for.
    """

    def __init__(
        self,
        poll: Callable[[float], Events],
        has_sockets: Callable[[], bool],
        *,
        limit_s: float,
        on_block: OnBlock | None,
        describe_waiting: Callable[[], str],
    ) -> None:
        self.jobs: set[Job] = set()
        self.threads: list[threading.Thread] = []  # started by hooks
        self.given_up: list[str] = []
        self._poll = poll
        self._has_sockets = has_sockets
        self._limit_s = limit_s
        self._on_block = on_block
        self._describe_waiting = describe_waiting
        # asyncio is woken through a socket; a queue takes a quarter of the time, and a hook point has two wake-ups.
        self._wakeups: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        # How much longer sockets and threads are waited for: since they last answered, and in total.
        self._io_left_s = limit_s
        self._total_io_left_s = _MAX_LIMITS * limit_s

    def wake(self, ended: Job | None = None) -> None:
        """Wake the loop from another thread: a job has ended, or a callback is ready."""
        self._wakeups.put(ended)

    def submit(
        self, thread: HookThread, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        """Call a function in a thread. The future gets what it returns or raises."""
        job = Job(thread, future=future)

        def call() -> None:
            if not future.cancelled():
                job.start()
                try:
                    job.result = func(*args)
                except BaseException as error:  # of any kind: the awaiting code decides
                    job.error = error
            self._wakeups.put(job)

        self.jobs.add(job)
        thread.pending += 1
        thread.calls.put(call)

    def wait(self, timeout_s: float | None) -> Events | None:
        """Wait until something is ready, in real time.

        Args:
            timeout_s: virtual seconds until the next timer; ``None`` if there is none.

        Returns:
            The sockets that are ready; ``None`` if nothing is, and the clock may go on.
        """
        wakeups = self._wakeups
        if not wakeups.empty():
            while not wakeups.empty():
                self._finish(wakeups.get())
            self._io_left_s = self._limit_s
            return self._poll(0)
        if timeout_s == 0:
            return self._poll(0) if self._is_io_pending() else []
        if self.jobs:
            return None if self._wait_for_jobs(may_jump=timeout_s is not None) else self._poll(0)
        if timeout_s is None or self._is_io_pending():
            return self._wait_for_io() or None
        return None

    def deadlock_message(self) -> str:
        """Return why nothing will happen any more."""
        if self.jobs:
            why = f"what is at work in a thread has not ended after {_MAX_LIMITS} times real_sleep_limit_s"
        elif self._is_io_pending():
            why = "no socket, subprocess or thread that is waited for has answered within real_sleep_limit_s"
        else:
            why = "nothing is at work, so in production this start would hang for ever"
        if self.jobs or self._is_io_pending():
            why += f" ({self._limit_s:g} s of real time), so the test waits no longer"
        return f"nothing is scheduled and {why}. Waiting: {self._describe_waiting()}"

    def _finish(self, job: Job | None) -> None:
        """Pass a job's result on to its future."""
        if job is None:
            return
        job.ended = True
        future = job.future
        if job.thread is None:  # its executor sets the future
            if future is not None and future.done():
                self.jobs.discard(job)
            return
        self.jobs.discard(job)
        job.thread.pending -= 1
        if future is None or future.done():
            return
        if job.error is not None:
            future.set_exception(job.error)
        else:
            future.set_result(job.result)

    def is_pending(self) -> bool:
        """Return whether a thread or a socket may still wake the loop."""
        return bool(self.jobs) or self._is_io_pending()

    def _is_io_pending(self) -> bool:
        """Return whether a socket or a hook's own thread may wake the loop."""
        return self._has_sockets() or any(thread.is_alive() for thread in self.threads)

    def _wait_for_io(self) -> Events:
        """Wait for sockets and hooks' own threads while the limit lasts. Return the sockets that are ready."""
        while self._io_left_s > 0 and self._total_io_left_s > 0:
            slice_s = self._limit_s / _SLICES  # charged as asked for, as in `_wait_in_slices`
            events = self._poll(slice_s)
            self._total_io_left_s -= slice_s
            if events:
                self._io_left_s = self._limit_s
                return events
            self._io_left_s -= slice_s
            if self._io_left_s <= 0 and self._is_io_pending():
                self.given_up.append(self._describe_waiting())
        return []

    def _wait_for_jobs(self, *, may_jump: bool) -> bool:
        """Wait for jobs in threads. Return whether the clock may go on although they have not ended."""
        fresh = [job for job in self.jobs if not job.reported]
        if fresh:
            wait_s = self._limit_s - max(job.blocked_s for job in fresh)
        elif any(job.blocked_s < _MAX_LIMITS * self._limit_s for job in self.jobs):
            wait_s = self._limit_s  # one jump for each limit: a slow job may still come back
        else:
            return True
        if self._wait_in_slices(max(wait_s, 0.001)):
            return False
        for job in fresh:
            if job.blocked_s >= self._limit_s - _RESOLUTION_S:
                self._report(job)
        return may_jump and all(job.reported for job in self.jobs)

    def _report(self, job: Job) -> None:
        """Report a job that has reached the limit, or give it the limit again if it is in no hook."""
        location = locate_thread(job.thread_id)
        if location is None and job.extra_limits < _EXTRA_LIMITS:  # its hook may be about to begin, or to end
            job.extra_limits += 1
            job.blocked_s = 0.0
            return
        job.reported = True
        if self._on_block is not None:
            self._on_block(location, job.blocked_s)

    def _wait_in_slices(self, seconds: float) -> bool:
        """Wait for a wake-up and charge the jobs for the time. Return whether there was one.

        A slice is charged as asked for, even if it took longer: a busy machine holds up the jobs as well.
        """
        while seconds > 0:
            slice_s = min(seconds, self._limit_s / _SLICES)
            start_s = time.perf_counter()
            woken = self._wait_for_wakeup(slice_s)
            waited_s = min(time.perf_counter() - start_s, slice_s)
            for job in self.jobs:
                job.blocked_s += waited_s
            if woken:
                return True
            seconds -= slice_s
        return False

    def _wait_for_wakeup(self, seconds: float) -> bool:
        """Wait for another thread, and for the sockets if there are any. Return whether one was ready."""
        deadline_s = time.perf_counter() + seconds
        while (left_s := deadline_s - time.perf_counter()) > 0:
            sockets = self._has_sockets()
            try:
                self._finish(self._wakeups.get(timeout=min(left_s, _POLL_S) if sockets else left_s))
            except queue.Empty:
                if sockets and self._poll(0):
                    return True
            else:
                return True
        return False
