"""Threads that are in no run, or in another one. A hook may wait for one of them: ``done.wait(timeout=5)``."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from .idle import is_idle

if TYPE_CHECKING:
    from .belongings import Belongings
    from .sleeper import Sleeper

# A wait gets this many real seconds before virtual time ends it, and more while bystanders are at work.
_GRACE_S = 0.05


class Bystanders:
    """The threads that are not of one run, and what may be waiting for them.

    A wait is given time for them once for each line of code that waits, since most waits only wait: a heartbeat's
    ``while not stop.wait(10)``.

    Args:
        belongings: what is of the run.
        limit_s: real seconds for which a wait is given time at most.
    """

    def __init__(self, belongings: Belongings, limit_s: float) -> None:
        self._belongings = belongings
        self._limit_s = limit_s
        self._lines_done: set[object] = set()
        self._sleeper: Sleeper | None = None
        self._waited_s = 0.0
        self._places: dict[int, tuple[int, int]] = {}

    def may_wake(self, sleeper: Sleeper | None, until_s: float, waited_s: float) -> bool:
        """Return whether a wait should be given more time before virtual time ends it.

        Args:
            sleeper: the thread that the clock would wake next.
            until_s: the time to which the clock would go.
            waited_s: real seconds since the last call.
        """
        if sleeper is None or sleeper.until_s != until_s or sleeper.line is None or sleeper.line in self._lines_done:
            return False
        if sleeper is not self._sleeper:
            self._sleeper, self._waited_s = sleeper, 0.0
        else:
            self._waited_s += waited_s
        moved = self._have_moved()
        if self._waited_s < (self._limit_s if moved else min(_GRACE_S, self._limit_s)):
            return True
        self._lines_done.add(sleeper.line)
        return False

    def _have_moved(self) -> bool:
        """Return whether one of them is at another place in its code than before."""
        own = {job.thread_id for job in tuple(self._belongings.jobs)} | {threading.get_ident()}
        own.update(each.what.ident or 0 for each in tuple(self._belongings.threads))
        before, self._places = self._places, {}
        for thread_id, frame in sys._current_frames().items():
            if thread_id not in own and not is_idle(frame):
                self._places[thread_id] = (id(frame), frame.f_lasti)
        return any(before.get(thread_id) not in (None, place) for thread_id, place in self._places.items())
