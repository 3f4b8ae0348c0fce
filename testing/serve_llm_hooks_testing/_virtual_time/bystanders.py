"""Threads that are in no run, or in another one. A hook may wait for one of them: ``done.wait(timeout=5)``."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING

from .idle import is_idle, is_of_harness
from .locations import current_frames

if TYPE_CHECKING:
    from .sleeper import Sleeper

# A wait gets this many real seconds before virtual time ends it, since a bystander was last seen to do something.
_GRACE_S = 0.05
_LOOK_EVERY_S = 0.01


class Bystanders:
    """Find what may be waiting for threads that are not of its run.

    A wait is given time for them once for each line of code that waits, since most waits only wait: a heartbeat's
    ``while not stop.wait(10)``.

    Args:
        limit_s: real seconds for which a wait is given time at most.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._lines_done: set[object] = set()
        self._sleeper: Sleeper | None = None
        self._waited_s = 0.0
        self._still_s = 0.0  # of that, since one of them was seen to do something
        self._seen_s = 0.0

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
            self._sleeper, self._waited_s, self._still_s, waited_s = sleeper, 0.0, 0.0, 0.0
        before_s, self._seen_s = self._seen_s, _watch.last_seen_s()
        self._waited_s += waited_s
        self._still_s = self._still_s + waited_s if self._seen_s == before_s else 0.0
        if self._waited_s < self._limit_s and self._still_s < _GRACE_S:
            return True
        self._lines_done.add(sleeper.line)
        return False


class _Watch:
    """Looks at all threads of this process; those that wait for work are at the same place as before."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._looked_s = 0.0
        self._seen_s = 0.0
        self._places: dict[int, tuple[int, int]] = {}

    def last_seen_s(self) -> float:
        """Return when a thread was last seen to do something. Many may ask: it looks now and then only."""
        with self._lock:
            now_s = perf_counter()
            if now_s - self._looked_s > _LOOK_EVERY_S:
                self._looked_s = now_s
                before, self._places = (
                    self._places,
                    {
                        thread_id: (id(frame), frame.f_lasti)
                        for thread_id, frame in current_frames().items()
                        if not is_of_harness(frame) and not is_idle(frame)
                    },
                )
                if any(before.get(thread_id) not in (None, place) for thread_id, place in self._places.items()):
                    self._seen_s = now_s
            return self._seen_s


_watch = _Watch()
