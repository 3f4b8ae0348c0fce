"""Let the functions of ``time`` tell virtual time in the threads of a run, and real time in all others.

time-machine and freezegun change them for the whole process, and have no ``sleep``; time-machine has no ``monotonic``
either. Here the other threads of a test, and several runs at once, have clocks of their own.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from .._apart.state import enter_process, leave_process
from .._apart.thread_data import keep
from .bound_names import BoundNames
from .spinning import forget_readings, note_reading

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from .._apart.state import ProcessState
    from .clock import VirtualClock

# They wait really, in C, and measure how long: for them, a clock that stands still would never be late enough.
_WAIT_REALLY = frozenset(
    (
        "asyncio.base_events",
        "multiprocessing.connection",
        "multiprocessing.managers",
        "multiprocessing.queues",
        "multiprocessing.synchronize",
        "selectors",
        "socket",
        "socketserver",
        "ssl",
        "subprocess",
    )
)
_BILLION = 10**9


class _Thread(threading.local):
    clock: VirtualClock | None = None


_thread = keep(_Thread())


def _leave_run() -> None:
    _thread.clock = None


os.register_at_fork(after_in_child=_leave_run)  # the run goes on in the parent


def current_clock() -> VirtualClock | None:
    """Return the virtual clock of the calling thread; ``None`` if it is in no run, or in one that is over."""
    clock = _thread.clock
    return None if clock is None or clock.is_over else clock


class in_run:  # used as contextlib's context managers are, which cost five times as much
    """Let the calling thread be in the run that has this clock, inside the ``with`` block; ``None``: in no run.

    With a process, the thread is in that too.
    """

    __slots__ = ("_before", "_clock", "_process", "_token")

    def __init__(self, clock: VirtualClock | None, process: ProcessState | None = None) -> None:
        self._clock = clock
        self._process = process

    def __enter__(self) -> None:
        self._before, _thread.clock = _thread.clock, self._clock
        if self._process is not None:
            self._token = enter_process(self._process)

    def __exit__(self, *exc_info: object) -> None:
        _thread.clock = self._before
        if self._process is not None:
            leave_process(self._token)
        forget_readings()


def _clock_of_caller() -> VirtualClock | None:
    """Return the virtual clock that the caller's caller should see."""
    clock = current_clock()
    if clock is not None:
        frame = sys._getframe(2)
        if frame.f_globals.get("__name__") in _WAIT_REALLY:
            return None
        note_reading(clock, frame)
    return clock


def _virtual(name: str, start: Callable[[VirtualClock], int]) -> dict[Callable[[], Any], Callable[[], Any]]:
    """Return a function of ``time`` and its form in nanoseconds, each with what takes its place."""
    real: Callable[[], float] = getattr(time, name)
    real_ns: Callable[[], int] = getattr(time, f"{name}_ns")

    def seconds() -> float:
        clock = _clock_of_caller()
        return real() if clock is None else start(clock) + clock.now_s

    def nanoseconds() -> int:
        clock = _clock_of_caller()
        return real_ns() if clock is None else start(clock) * _BILLION + round(clock.now_s * _BILLION)

    seconds.__name__ = seconds.__qualname__ = name
    nanoseconds.__name__ = nanoseconds.__qualname__ = f"{name}_ns"
    return {real: seconds, real_ns: nanoseconds}


_real_sleep = time.sleep


def sleep(seconds: float, /) -> None:
    """Sleep, in a run for virtual seconds."""
    clock = _clock_of_caller()
    if clock is None or not seconds > 0:  # what is no length of time is told as ever
        _real_sleep(seconds)
        return
    sleeper = clock.make_sleeper(seconds)
    clock.sleep(sleeper)
    if clock.is_over and sleeper.until_s is not None:
        _real_sleep(max(sleeper.until_s - clock.now_s, 0.0))


_VIRTUAL: dict[Callable[..., Any], Callable[..., Any]] = {
    **_virtual("time", lambda clock: clock.beginning.time),
    **_virtual("monotonic", lambda clock: clock.beginning.monotonic),
    **_virtual("perf_counter", lambda clock: clock.beginning.perf_counter),
    _real_sleep: sleep,
}
_bound_names = BoundNames(_VIRTUAL)


def install_clocks(undo: ExitStack) -> None:
    """Put the virtual functions in the place of the real ones, wherever modules have them, until ``undo`` is closed."""
    for real, virtual in _VIRTUAL.items():
        setattr(time, real.__name__, virtual)
        undo.callback(setattr, time, real.__name__, real)
    _bound_names.replace(undo)
