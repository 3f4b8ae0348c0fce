"""A thread that waits for the virtual clock, or for another thread."""

from __future__ import annotations

import itertools
from _thread import allocate_lock
from typing import TYPE_CHECKING

from .._apart.state import current_process

if TYPE_CHECKING:
    from .._apart.state import ProcessState


_changes = itertools.count()


def next_change() -> int:
    """Count a change of who is at work: a thread is woken, goes to sleep, or starts something. Return its number.

    Threads are looked at one after another. One that is at work may let one go on that was looked at before it, and
    wait by the time that it is looked at itself. If nothing was counted meanwhile, nobody was at work at all.
    """
    return next(_changes)


class Sleeper:
    """A thread that waits, until a virtual time or until another thread lets it go on. It goes on once.

    Attributes:
        until_s: the virtual time; ``None`` if it waits for another thread only.
        order: its place among all that have asked for a time.
        line: the line of code that waits for another thread; ``None`` if it only sleeps.
        was_due: whether it was the clock that let it go on.
        process: the simulated process that it belongs to.
    """

    __slots__ = ("_awake", "_held", "line", "order", "process", "until_s", "was_due")

    def __init__(self, until_s: float | None, order: int, line: object = None) -> None:
        self.until_s: float | None = until_s
        self.order: int = order
        self.line: object = line
        self.was_due: bool = False
        self.process: ProcessState | None = current_process()
        self._held = allocate_lock()  # until the thread may go on
        self._held.acquire()
        self._awake = allocate_lock()  # taken by whoever lets it go on: only one can

    def __lt__(self, other: Sleeper) -> bool:
        return self.is_before(other.until_s or 0.0, other.order)

    def is_before(self, when_s: float, order: int) -> bool:
        """Return whether it is due before a timer of this time and place."""
        return (self.until_s or 0.0, self.order) < (when_s, order)

    @property
    def is_awake(self) -> bool:
        """``True`` if the thread may go on."""
        return self._awake.locked()

    def wake(self, *, by_clock: bool = False) -> bool:
        """Let the thread go on. Return whether it was asleep."""
        if not self._awake.acquire(blocking=False):
            return False
        self.was_due = by_clock
        next_change()
        self._held.release()
        return True

    def release(self) -> None:
        """Let the thread go on: to ``threading.Condition``, a sleeper is one of its waiting locks.

        Raises:
            RuntimeError: it goes on already.
        """
        if not self.wake():
            raise RuntimeError("release unlocked lock")

    def wait(self) -> None:
        """Wait in the calling thread until it may go on."""
        self._held.acquire()

    def wait_really(self, seconds: float) -> None:
        """Wait in the calling thread until it may go on, at most for real seconds."""
        if self._held.acquire(timeout=seconds):
            self._held.release()
