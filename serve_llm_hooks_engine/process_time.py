"""Tell when this process began."""

import os
import time

_begun_s: float | None = None


def begin_now() -> None:
    """Count from now: this process was begun before anybody needed it."""
    global _begun_s
    _begun_s = time.time()


def process_start_s() -> float:
    """Return when this process began, in seconds since the epoch."""
    if _begun_s is not None:
        return _begun_s
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    with open("/proc/uptime", encoding="utf-8") as file:
        up_s = float(file.read().split()[0])
    return time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")
