"""Limit how long the virtual clock waits, in real time, for one thing that is at work."""

from __future__ import annotations

from dataclasses import dataclass, field

from .locations import is_importing
from .locks import LockWatch

LONGEST_IMPORT_S = 60.0
"""So many real seconds a hook may import modules, as vLLM, before that counts as waiting."""

MAX_LIMITS = 10
"""So many limits are waited for what is at work. After that the clock goes on as if it never came back."""


@dataclass(slots=True)
class Patience:
    """The patience with one thing that is at work: a call in a thread, a subprocess, a socket.

    Attributes:
        since_s: the virtual time at which it was seen to be at work.
        waited_s: the real seconds for which it has been waited for since.
        imported_s: the real seconds in which it has imported modules: that is work, however long it takes.
        is_told: whether it is known that the clock went on without it.
        locks: tells whether its thread waits for a lock.
    """

    since_s: float
    waited_s: float = 0.0
    imported_s: float = 0.0
    is_told: bool = False
    locks: LockWatch = field(default_factory=LockWatch)

    def charge(self, seconds: float, limit_s: float, thread_id: int) -> None:
        """Count the real seconds for which it was waited for.

        Args:
            seconds: the seconds.
            limit_s: the limit of what may block.
            thread_id: the thread that is at work; 0 if there is none.
        """
        is_long = self.waited_s + seconds >= limit_s
        if thread_id and is_long and self.imported_s < LONGEST_IMPORT_S and is_importing(thread_id):
            self.imported_s += seconds
        else:
            self.waited_s += seconds

    def is_over(self, until_s: float | None, limit_s: float) -> bool:
        """Return whether the clock may go on without it.

        In production the thing would have been as slow, and a timer that is due by then would have been first. So the
        clock goes on if the limit is over and the wait has been as long as until then.

        Args:
            until_s: the virtual time to which the clock would go; ``None`` if there is none.
            limit_s: the limit, in real seconds.

        Example:
            >>> Patience(0.0, waited_s=3.0).is_over(2.5, 1.0), Patience(0.0, waited_s=3.0).is_over(60.0, 1.0)
            (True, False)
        """
        longest_s = MAX_LIMITS * limit_s
        needed_s = longest_s if until_s is None else min(max(limit_s, until_s - self.since_s), longest_s)
        return self.waited_s >= needed_s - 1e-9
