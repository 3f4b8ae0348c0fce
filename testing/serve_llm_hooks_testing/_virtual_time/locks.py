"""Tell whether a thread waits for a lock, in C: its Python stack does not say what it waits for. Linux only."""

from __future__ import annotations

from .idle import is_starting
from .locations import current_frames

_LOOKS = 4  # at which it is at the same place


def waits_for_lock(native_id: int | None) -> bool:
    """Return whether a thread waits for a lock, or for the interpreter; ``False`` where the system does not tell."""
    try:
        with open(f"/proc/self/task/{native_id}/wchan", encoding="ascii") as file:
            return file.read().startswith("futex")
    except OSError:
        return False


class LockWatch:
    """Looks at a thread again and again: one that waits for the interpreter is somewhere else a little later."""

    __slots__ = ("_looks", "_place")

    def __init__(self) -> None:
        self._looks = 0
        self._place: tuple[int, int] | None = None

    def sees_wait(self, thread_id: int, native_id: int | None) -> bool:
        """Return whether a thread waits for a lock, and did so at the last looks."""
        frame = current_frames().get(thread_id)
        before, self._place = self._place, None
        if frame is None or is_starting(frame) or not waits_for_lock(native_id):
            return False
        self._place = (id(frame), frame.f_lasti)
        self._looks = self._looks + 1 if self._place == before else 1
        return self._looks >= _LOOKS
