"""Threads for sync hooks, used again from run to run: starting a thread costs as much as a whole hook point."""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

__all__ = ["HookThread", "Leases"]


class HookThread:
    """One daemon thread that calls what it is given. As in the core's own, a hook that hangs ends with the process."""

    __slots__ = ("calls", "jobs")

    def __init__(self) -> None:
        self.calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.jobs: int = 0  # given, and not yet known to be over
        threading.Thread(target=self._work, name="serve-llm-hooks", daemon=True).start()

    def _work(self) -> None:
        get = self.calls.get
        while (call := get()) is not None:
            call()
            del call  # what it holds must not live until the next one


# As many processes keep a thread to themselves, as in production. Beyond (ten thousand nodes) they share these.
_THREADS = 64
_idle: list[HookThread] = []
os.register_at_fork(after_in_child=_idle.clear)  # threads do not survive a fork


class Leases:
    """Which thread works for which of the core's executors, during one run.

    A dispatcher has one executor and so keeps one thread, which matters to hooks that keep thread-local things.
    """

    def __init__(self) -> None:
        self._thread_of: WeakKeyDictionary[Executor, HookThread] = WeakKeyDictionary()
        self._taken: list[HookThread] = []
        self._next = 0

    def thread_for(self, executor: Executor) -> HookThread:
        """The executor's thread."""
        thread = self._thread_of.get(executor)
        if thread is None:
            thread = self._thread_of[executor] = self._take()
        return thread

    def finish(self) -> None:
        """Give the threads back; those that still hang are left to end by themselves."""
        for thread in self._taken:
            if thread.jobs or len(_idle) >= _THREADS:
                thread.calls.put(None)
            else:
                _idle.append(thread)

    def _take(self) -> HookThread:
        if len(self._taken) >= _THREADS:
            self._next = (self._next + 1) % _THREADS
            return self._taken[self._next]
        try:
            thread = _idle.pop()
        except IndexError:
            thread = HookThread()
        self._taken.append(thread)
        return thread
