"""Let waiting for other threads take virtual time: ``Event.wait(5)``, ``queue.get(timeout=5)``, ``future.result(5)``.

All of these wait in ``threading.Condition.wait``. What waits in C takes real time: a lock's ``acquire(timeout=5)``.
"""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .system_clocks import current_clock

if TYPE_CHECKING:
    from contextlib import ExitStack
    from types import FrameType

_WAITING = ("concurrent.futures._base", "queue", "threading")
_real_wait = threading.Condition.wait


def _wait(self: Any, timeout: float | None = None) -> bool:
    """Wait until notified or until a timeout occurs; as ``threading.Condition.wait``, in virtual time."""
    clock = current_clock()
    if clock is None or (timeout is not None and timeout <= 0) or not self._is_owned():
        return _real_wait(self, timeout)
    sleeper = clock.make_sleeper(timeout, _line_that_waits())
    self._waiters.append(sleeper)
    state = self._release_save()
    try:
        clock.sleep(sleeper)
    finally:
        self._acquire_restore(state)
        if sleeper.was_due or not sleeper.is_awake:
            with suppress(ValueError):
                self._waiters.remove(sleeper)
    if sleeper.was_due and clock.is_over and sleeper.until_s is not None and sleeper.until_s > clock.now_s:
        return _real_wait(self, sleeper.until_s - clock.now_s)
    return not sleeper.was_due


def _line_that_waits() -> tuple[object, int]:
    """Return the line of code that has called what waits."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_back is not None and frame.f_globals.get("__name__") in _WAITING:
        frame = frame.f_back
    assert frame is not None
    return frame.f_code, frame.f_lineno


def install_waits(undo: ExitStack) -> None:
    """Let threads of runs wait in virtual time, until ``undo`` is closed."""
    threading.Condition.wait = _wait  # type: ignore[method-assign]  # undone in the next line's callback
    undo.callback(setattr, threading.Condition, "wait", _real_wait)
