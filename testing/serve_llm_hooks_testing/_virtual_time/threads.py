"""Worker threads for sync hooks. They outlive a run: starting one takes as long as running a whole hook point."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from .._apart.thread_data import forget_thread_data

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor


class HookThread:
    """Daemon thread that makes the calls in its queue. As in production, a hook that hangs ends with the process."""

    __slots__ = ("calls", "pending")

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()  # None ends the thread
        self.pending: int = 0  # calls that have not ended
        threading.Thread(target=self._run, name="serve-llm-hooks", daemon=True).start()

    def _run(self) -> None:
        get = self.calls.get
        while (call := get()) is not None:
            call()
            del call  # what it refers to must not live until the next call


# This many executors have a thread of their own, as in production. Those of further nodes share them.
_MAX_THREADS = 64
_idle: list[HookThread] = []
os.register_at_fork(after_in_child=_idle.clear)  # threads do not survive a fork


class HookThreads:
    """The threads of one run: each of the core's executors keeps one, so that hooks can use thread-local data."""

    def __init__(self) -> None:
        self._thread_of: WeakKeyDictionary[Executor, HookThread] = WeakKeyDictionary()
        self._threads: list[HookThread] = []
        self._next = 0

    def thread_for(self, executor: Executor) -> HookThread:
        """Return the executor's thread."""
        thread = self._thread_of.get(executor)
        if thread is None:
            thread = self._thread_of[executor] = self._allocate()
        return thread

    def release(self) -> None:
        """Make the threads available to the next run. A thread whose hook hangs is left to end by itself."""
        for thread in self._threads:
            if thread.pending or len(_idle) >= _MAX_THREADS:
                thread.calls.put(None)
            else:
                _idle.append(thread)

    def _allocate(self) -> HookThread:
        if len(self._threads) >= _MAX_THREADS:
            self._next = (self._next + 1) % _MAX_THREADS
            return self._threads[self._next]
        try:
            thread = _idle.pop()
            thread.calls.put(forget_thread_data)
        except IndexError:
            thread = HookThread()
        self._threads.append(thread)
        return thread
