"""Files that one node writes and another one finds, which it would not on another machine."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Noted = list[list[str]]
"""Type of the lines that a process has written down."""


def node_in(noted: Noted) -> str:
    """Return the node of a process."""
    return next((each[1] for each in noted if each[0] == "node"), "")


def files_of_others(processes: Iterable[Noted]) -> tuple[str, ...]:
    """Return the files that a node has found which only other nodes have written."""
    writers: dict[str, set[str]] = {}
    readers: dict[str, set[str]] = {}
    for noted in processes:
        node = node_in(noted)
        for kind, *which in noted:
            if kind in ("wrote", "read"):
                (writers if kind == "wrote" else readers).setdefault(which[0], set()).add(node)
    return tuple(path for path, nodes in sorted(writers.items()) if readers.get(path, set()) - nodes)


def remove_new_files(processes: Iterable[Noted], kept: str) -> None:
    """Remove what hooks have left in temporary folders and was not there: the next run would find it.

    Args:
        processes: what they have written down.
        kept: a folder that is removed elsewhere.
    """
    temporary = tuple(f"{folder}/" for folder in {"/tmp", "/var/tmp", "/dev/shm", tempfile.gettempdir()})
    folders: list[str] = []
    for noted in processes:
        for kind, *which in noted:
            if not which[0].startswith(temporary) or which[0].startswith(kept):
                continue
            if kind == "wrote" and which[1]:
                with suppress(OSError):
                    os.unlink(which[0])
            elif kind == "made":
                folders.append(which[0])
    for folder in sorted(set(folders), key=len, reverse=True):
        with suppress(OSError):  # it is not empty, or gone
            os.rmdir(folder)


def changed_in(processes: Mapping[int, Noted]) -> list[str]:
    """Return what processes have changed of what each has of its own: variables, ``sys.path``."""
    return sorted({each[1] for noted in processes.values() for each in noted if each[0] == "changed"})
