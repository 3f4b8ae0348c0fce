"""Tell when this process began."""

import os
import time

_begun: tuple[int, float] | None = None  # a process, and when it began: one that is forked has a time of its own


def begin_now() -> None:
    """Count from now: this process was begun before anybody needed it."""
    global _begun
    _begun = os.getpid(), time.time()


def process_start_s() -> float:
    """Return when this process began, in seconds since the epoch."""
    if _begun is not None and _begun[0] == os.getpid():
        return _begun[1]
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime", encoding="utf-8") as file:
        up_s = float(file.read().split()[0])
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")
