"""Read the memory that can be had on a node: the machine's, or what its control group leaves of it."""

from __future__ import annotations

from pathlib import Path

from ._extra import from_the_extra

GIB = 2**30


def available_memory(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes of memory that can be had. What the page cache holds counts as free: it gives way."""
    with from_the_extra():
        import psutil
    free = psutil.virtual_memory().available
    for limit, used, cached in (
        ("memory.max", "memory.current", ("inactive_file", "active_file")),  # version 2, and 1 below
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", ("total_inactive_file", "total_active_file")),
    ):
        try:
            most = int((cgroup / limit).read_text())
            taken = int((cgroup / used).read_text())
            lines = (cgroup / limit).with_name("memory.stat").read_text().splitlines()
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
        gives_way = sum(int(line.split()[1]) for line in lines if line.split()[0] in cached)
        free = min(free, max(0, most - taken + gives_way))
    return free
