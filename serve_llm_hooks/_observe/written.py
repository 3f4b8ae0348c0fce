"""``Written``: the bytes that this process writes, and how fast, whoever of it does: a downloader, or a hook."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LEAST = 1_000_000  # what logs and compiled modules take is not worth telling


def written_bytes() -> int:
    """Return the bytes that this process has written to files and pipes; 0 where the kernel does not tell."""
    with contextlib.suppress(OSError, ValueError), open("/proc/self/io", encoding="utf-8") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("wchar:")), 0)
    return 0


class Written:
    """Count from its making on, and since it was last asked.

    Args:
        read: returns the bytes so far.
        clock: returns the time in seconds.

    Example:
        >>> times, counts = iter([0.0, 10.0]), iter([0, 4_000_000_000])
        >>> Written(lambda: next(counts), lambda: next(times)).since_last()
        ', 4 GB written, 400 MB/s'
    """

    def __init__(self, read: Callable[[], int] = written_bytes, clock: Callable[[], float] = time.monotonic) -> None:
        self._read = read
        self._clock = clock
        self._first = self._last = read()
        self._last_s = clock()

    def since_last(self) -> str:
        """Return the bytes since it was made, and the rate since it was last asked; empty while they are few."""
        now, now_s = self._read(), self._clock()
        brought, took_s = now - self._last, now_s - self._last_s
        self._last, self._last_s = now, now_s
        if now - self._first < _LEAST:
            return ""
        from .._core.bars import size  # few nodes write much

        rate = f", {size(brought / took_s)}/s" if took_s > 0 else ""
        return f", {size(now - self._first)} written{rate}"
