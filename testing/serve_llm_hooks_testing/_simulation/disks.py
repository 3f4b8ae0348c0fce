"""The disks of the nodes: what hooks that run once per node keep there, from one run of a cluster to the next."""

from __future__ import annotations

import os
import select
import shutil
import tempfile
import weakref
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._node.node_folder import NodeFolder, NodeLock

from .._apart.state import current_process

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAP_S = 0.001


def new_disks(owner: object) -> str:
    """Return the path of a folder that is made when something is kept, and removed with its owner."""
    path = os.path.join(tempfile.gettempdir(), f"fake-cluster-disks-{os.urandom(8).hex()}")
    weakref.finalize(owner, shutil.rmtree, path, ignore_errors=True)
    return path


class Disk(NodeFolder):
    """The folder of a process on one node.

    Args:
        environ: the environment of the process.
        disks: the folder of the cluster's disks.
        node_id: the node.
    """

    def __init__(self, environ: Mapping[str, str], disks: str, node_id: str) -> None:
        self._process = current_process()
        process_id = None if self._process is None else self._process.process_id
        super().__init__(environ, parts=(node_id,), process_id=process_id)
        self._disks = disks

    def base(self, given: str | None) -> str:
        """Return a folder on the cluster's disks, also where the variable names one: that is on other machines."""
        return os.path.join(self._disks, given.lstrip("/")) if given else self._disks

    def lock(self, name: str) -> NodeLock:
        """Return a lock. It ends with the simulated process."""
        lock = super().lock(name)
        if self._process is not None:
            self._process.file_locks.append(lock)
        return lock

    async def pause(self, seconds: float) -> None:
        """Wait before a lock is tried again.

        Who holds it may be in another run, with a clock of its own: a moment of real time is for that one.
        """
        _nap()
        await super().pause(seconds)


def _nap(wait: Any = select.select) -> None:
    wait([], [], [], _NAP_S)
