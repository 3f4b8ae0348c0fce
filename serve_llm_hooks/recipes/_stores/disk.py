"""Make the folder that files are brought to, hold it alone, and look whether there is room."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .store import StoreError, logger

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def make_folder(place: str, dest: Path, below: str = "") -> None:
    """Make the folder that files are brought to, and one below it for what is not whole.

    Raises:
        StoreError: it cannot be made, or not be written to; the message says what to do.
    """
    folder = dest / below
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))
    except OSError as error:
        raise StoreError(
            f"{place}: nothing can be brought to {dest} ({error.strerror}: {error.filename}): give a dest= where user "
            f"{os.getuid()} may write on this node, such as a volume that is mounted there"
        ) from error


@contextmanager
def locked(path: Path, place: str) -> Iterator[None]:
    """Hold a lock that ends with the process, so that two replicas on one node do not do the same work."""
    import fcntl  # not on Windows, where configs are written and tested too

    with path.open("w") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("%s: waiting for another process on this node, which fetches to the same folder", place)
            fcntl.flock(opened, fcntl.LOCK_EX)  # not asked for again and again: on a fake cluster that takes its time
        yield


def check_space(place: str, dest: Path, missing: int) -> None:
    """Raise if a disk has less room than is needed."""
    free = shutil.disk_usage(dest).free
    if missing > free:
        raise StoreError(f"{place}: {shown(missing)} are still to come, and the disk of {dest} has {shown(free)} free")


def shown(size: int) -> str:
    """Return a size for people.

    Example:
        >>> shown(3 << 29)
        '1.5 GiB'
    """
    value, units = float(size), ["B", "KiB", "MiB", "GiB"]
    while value >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.0f} B" if units[0] == "B" else f"{value:.1f} {units[0]}"
