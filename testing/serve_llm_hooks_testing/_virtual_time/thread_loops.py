"""Let event loops that hooks run themselves, mostly in threads of their own, go with virtual time."""

from __future__ import annotations

import asyncio
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.worker_thread import WorkerThread

from .._apart.state import current_process
from .abandoned import keep_for_ever
from .awaited import awaited_sockets
from .clock import end_if_killed
from .job import Job
from .sleeper import Sleeper
from .started import pool_call
from .system_clocks import current_clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor
    from contextlib import ExitStack

    from .clock import VirtualClock

_real_run_forever = asyncio.BaseEventLoop.run_forever


class _SleepingLoop(Sleeper):
    """A loop that waits, in a thread of a run. Who lets it go on wakes it as asyncio does, through its own socket."""

    __slots__ = ("_write_to_self",)

    def __init__(self, until_s: float | None, order: int, write_to_self: Callable[[], object]) -> None:
        super().__init__(until_s, order)
        self._write_to_self = write_to_self

    def wake(self, *, by_clock: bool = False) -> bool:
        was_asleep = super().wake(by_clock=by_clock)
        if was_asleep and by_clock:
            self._write_to_self()
        return was_asleep


class _Selector:
    """The selector of such a loop, which waits in virtual time."""

    def __init__(self, loop: Any, clock: VirtualClock) -> None:
        self._loop = loop
        self._clock = clock
        self._real = loop._selector
        self._write_to_self: Callable[[], object] = loop._write_to_self
        self._sleeper: Sleeper | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def select(self, timeout: float | None = None) -> Any:
        """Wait for sockets, or for a virtual time."""
        if timeout == 0 or self._clock.is_over or self._is_answer_awaited():
            return self._real.select(timeout)
        clock = self._clock
        until_s = None if timeout is None else clock.rounded(clock.now_s + timeout)
        sleeper = self._sleeper = _SleepingLoop(until_s, clock.next_order(), self._write_to_self)
        if clock.is_loop_thread:  # a hook in the main thread of its process, in which the run's loop waits for it
            clock.sleep(sleeper)
            return self._real.select(0)
        with clock.asleep_in_c(sleeper):
            events = self._real.select(None)
        end_if_killed(sleeper)
        return events

    def wake(self) -> None:
        """Wake the loop from another thread."""
        if self._sleeper is not None:
            self._sleeper.wake()
        self._write_to_self()

    def now_s(self) -> float:
        """Return the loop's time."""
        return monotonic() if self._clock.is_over else self._clock.beginning.monotonic + self._clock.now_s

    def _is_answer_awaited(self) -> bool:
        own = self._loop._ssock.fileno()
        sockets = [key.fd for key in self._real.get_map().values() if key.fd != own]
        return bool(sockets) and any(True for _ in awaited_sockets(self._loop, sockets, ()))


def _run_in_executor(
    self: Any, clock: VirtualClock, executor: Executor | None, func: Callable[..., Any], *args: Any
) -> asyncio.Future[Any]:
    """Call a function in a worker thread; the clock waits for a hook there as for one in the replica's loop."""
    if not isinstance(executor, WorkerThread):
        return asyncio.BaseEventLoop.run_in_executor(self, executor, func, *args)
    job, jobs, process = Job(), clock.belongings.jobs, current_process()
    call = executor.submit(pool_call(clock, executor, job, func), *args)
    job.future = asyncio.wrap_future(call, loop=self)
    job.future.add_done_callback(lambda _: jobs.discard(job))

    def end_with_process(_: object) -> None:
        if process is not None and process.is_over:  # the loop is gone, and takes no answer
            jobs.discard(job)
            clock.wake_loop()

    call.add_done_callback(end_with_process)
    return job.future


def _run_forever(self: Any) -> None:
    """Run until stopped, as ``BaseEventLoop.run_forever``; in a run, in its virtual time."""
    clock = current_clock()
    waits_here = hasattr(self, "_selector") and hasattr(self, "_ssock")  # others wait in C, or on Windows
    if clock is None or getattr(self, "clock", None) is clock or not waits_here:
        _real_run_forever(self)
        return
    before = self._selector
    selector = self._selector = _Selector(self, clock)
    self.time, self._write_to_self = selector.now_s, selector.wake
    self.run_in_executor = partial(_run_in_executor, self, clock)
    clock.belongings.loops.append(self)
    try:
        _real_run_forever(self)
    except SystemExit:  # its process is killed
        keep_for_ever(asyncio.all_tasks(self))
        raise
    finally:
        clock.belongings.loops.remove(self)
        self._selector = before
        del self.time, self._write_to_self, self.run_in_executor


def install_thread_loops(undo: ExitStack) -> None:
    """Let loops in threads of runs go with virtual time, until ``undo`` is closed."""
    asyncio.BaseEventLoop.run_forever = _run_forever  # type: ignore[method-assign]  # undone in the callback
    undo.callback(setattr, asyncio.BaseEventLoop, "run_forever", _real_run_forever)
