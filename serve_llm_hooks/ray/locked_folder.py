"""Folders in which processes of an engine write for their replica; a lock tells them that the replica lives."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile

_PREFIX = "serve-llm-hooks-engine-"
_LOCK = "lock"

_locks: dict[str, int | None] = {}  # of the folders of this process


def make_folder() -> str:
    """Make a folder that this process has locked.

    It gets its name when it is locked: until then no other start may remove it.
    """
    made = tempfile.mkdtemp(prefix=f"new-{_PREFIX}")
    lock = _locked(made)
    folder = os.path.join(os.path.dirname(made), os.path.basename(made).removeprefix("new-"))
    os.rename(made, folder)
    _locks[folder] = lock
    return folder


def remove_folder(folder: str) -> None:
    """Remove such a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    if (lock := _locks.pop(folder, None)) is not None:
        os.close(lock)


def _locked(folder: str) -> int | None:
    """Return the descriptor of a folder's lock, which ends with this process; ``None`` if another has it."""
    lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def remove_left_over() -> None:
    """Remove the folders of replicas that were killed while their engine started."""
    folders: list[os.DirEntry[str]] = []
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as found:  # there may be thousands
        folders = [entry for entry in found if entry.name.startswith(_PREFIX)]
    for folder in folders:
        with contextlib.suppress(OSError):  # another user's, or just gone
            if folder.is_dir() and folder.stat().st_uid == os.getuid() and (lock := _locked(folder.path)) is not None:
                shutil.rmtree(folder.path, ignore_errors=True)
                os.close(lock)


def is_locked(folder: str) -> bool:
    """Return True if the replica that has made a folder lives."""
    try:
        lock = _locked(folder)
    except OSError:  # the folder is gone
        return False
    if lock is not None:
        os.close(lock)
    return lock is None
