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
import selectors
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.worker_thread import WorkerThread

from ..errors import DeadlockError
from .locations import locate_awaitable, locate_thread
from .threads import HookThreads
from .waiting import Job, RealWork

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from concurrent.futures import Executor
    from contextvars import Context

    from .waiting import Events, OnBlock

# Timers closer than this are due together: virtual times are sums of floats.
_RESOLUTION_S = 1e-6


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time.

    ``time()`` starts at 0 and stands still while anything is at work. When nothing is ready, it advances to the next
    timer. It waits for calls in worker threads (``run_in_executor``), for threads that hooks started and for sockets,
    but for none longer than ``real_sleep_limit_s`` of real time: then the clock goes on, so that a hook's
    ``timeout_s`` fires as in production. A call that takes longer is reported at once. Sockets and threads, which may
    be idle, are listed in ``given_up``, which explains why a timeout fired.

    Args:
        real_sleep_limit_s: seconds of real time after which a blocking call is reported.
        on_block: called once for each blocking call, with the hook's location and the seconds.

    Attributes:
        now_s: the virtual time.
        is_busy: whether a callback is running.
        threads: threads that hooks started.
        given_up: what waited for a socket or a thread when the clock went on without it.

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

    def __init__(self, *, real_sleep_limit_s: float = 1.0, on_block: OnBlock | None = None) -> None:
        self.now_s: float = 0.0
        self.is_busy: bool = False
        selector = _VirtualSelector(self)
        self._work = RealWork(
            selector.real_select,
            lambda: len(selector.get_map()) > 1,  # the loop has one of its own
            limit_s=real_sleep_limit_s,
            on_block=on_block,
            describe_waiting=self._describe_waiting,
        )
        self.threads: list[threading.Thread] = self._work.threads
        self.given_up: list[str] = self._work.given_up
        self._hook_threads = HookThreads()
        super().__init__(selector)
        self._clock_resolution = _RESOLUTION_S

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self.now_s

    def run_in_executor(  # type: ignore[override]  # typeshed has the same, with TypeVarTuples
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function in a worker thread. The clock waits for it."""
        if isinstance(executor, WorkerThread):
            future = self.create_future()
            self._work.submit(self._hook_threads.thread_for(executor), future, func, args)
            return future
        job = Job()

        def call() -> Any:
            job.start()
            try:
                return func(*args)
            finally:
                self._work.wake(job)

        def discard(_: object) -> None:
            if job.ended or not job.started:
                self._work.jobs.discard(job)

        self._work.jobs.add(job)
        job.future = super().run_in_executor(executor, call)
        job.future.add_done_callback(discard)
        return job.future

    def call_soon_threadsafe(  # type: ignore[override]  # as above
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Schedule a callback from another thread, and wake the loop where it waits for worker threads."""
        handle = super().call_soon_threadsafe(callback, *args, context=context)
        self._work.wake()
        return handle

    def wait(self, timeout_s: float | None) -> Events:
        """Wait for real work, or advance the clock by ``timeout_s``, where asyncio would sleep.

        Raises:
            DeadlockError: there is nothing to wait for.
        """
        events = self._work.wait(timeout_s)
        if events is not None:
            return events
        self.advance_to(None if timeout_s is None else round(self.now_s + timeout_s, 9))
        return []

    def advance_to(self, when_s: float | None) -> None:
        """Advance the clock.

        Raises:
            DeadlockError: there is no time to which it could.
        """
        if when_s is None:
            raise DeadlockError(self._work.deadlock_message())
        self.now_s = when_s

    def finish(self) -> None:
        """Cancel the remaining tasks and close the loop. A task that does not let itself be cancelled is abandoned."""
        if self.is_closed():
            return
        tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
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
            self._hook_threads.release()
            self.close()

    def _describe_waiting(self) -> str:
        """Return the hooks that wait, and at which lines."""
        waiting = [locate_awaitable(task.get_coro()) for task in asyncio.all_tasks(self)]
        waiting += [locate_awaitable(generator) for generator in self._asyncgens]  # type: ignore[attr-defined]  # as above
        waiting += [locate_thread(job.thread_id) for job in self._work.jobs]
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
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
