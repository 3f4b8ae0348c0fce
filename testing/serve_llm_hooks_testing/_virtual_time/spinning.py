"""Let time pass for code that only looks at the clock until it is late enough."""

from __future__ import annotations

import threading
from time import perf_counter
from typing import TYPE_CHECKING

from .._apart.thread_data import keep

if TYPE_CHECKING:
    from types import FrameType

    from .clock import VirtualClock

# So often code may look at a clock that stands still. After that it goes as the system's.
_READINGS = 10_000


class _Reader(threading.local):
    frame: FrameType | None = None
    count: int = 0
    now_s: float = 0.0
    real_s: float = 0.0


_reader = keep(_Reader())


def note_reading(clock: VirtualClock, frame: FrameType) -> None:
    """Note that a frame of the calling thread looks at the clock."""
    reader = _reader
    if reader.frame is not frame or reader.now_s != clock.now_s:
        reader.frame, reader.now_s, reader.count = frame, clock.now_s, 0
        return
    reader.count += 1
    if reader.count >= _READINGS:
        real_s = perf_counter()
        if reader.count > _READINGS:
            clock.now_s += real_s - reader.real_s
            reader.now_s = clock.now_s
        reader.real_s = real_s


def forget_readings() -> None:
    """Keep no frame of the calling thread alive."""
    _reader.frame = None
