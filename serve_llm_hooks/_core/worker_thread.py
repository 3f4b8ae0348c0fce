"""``WorkerThread``: the thread that sync hooks run in."""

from __future__ import annotations

import queue
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class WorkerThread(Executor):
    """Run calls one after another in one daemon thread.

    A daemon, and not the event loop's own executor, because a hook that hangs must not keep the process from ending.
    It is used through ``loop.run_in_executor``, so that a loop with a virtual clock knows when it is at work.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call (``Executor``'s interface)."""
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name="serve-llm-hooks", daemon=True)
            self._thread.start()
        future: Future[Any] = Future()
        self._jobs.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the thread end after its current job. Never waits for it, since that job may hang."""
        self._jobs.put(None)


def _work(jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (job := jobs.get()) is not None:
        future, call = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # the event loop that waits for it decides
                future.set_exception(error)
        del job, future, call  # do not keep what they hold alive until the next job
