"""The downloads of a fake cluster, which take time and fail as its faults say."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

from .fault_kinds import DownloadFault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from serve_llm_hooks import DownloadMode
    from serve_llm_hooks._node.task import NodeTask

    from .fault_kinds import Fault
    from .settings import ClusterSettings
    from .start import ReplicaStart

FaultT = TypeVar("FaultT")


class Downloads:
    """The part of a cluster that is about downloads. A base of ``SimulatedCluster``."""

    settings: ClusterSettings
    start: ReplicaStart
    triggered: list[Fault]

    if TYPE_CHECKING:

        def _faults(self, kind: type[FaultT], node_id: str | None = None) -> Iterator[FaultT]: ...

    async def _download(self, task: NodeTask, mode: DownloadMode) -> str | None:
        """Take the time of a download. Return the path of the model on the node.

        Where the weights are late, all else takes no time.
        """
        node = self.start.run.nodes[task.node_id]
        if task.weights != "only":
            node.downloaded.append(mode)
        seconds, path = self.settings.download_s, f"/models/{task.source_id}"
        error: Exception | str | None = None
        quietly = False
        for fault in self._download_faults(task):
            seconds = seconds if fault.seconds is None else fault.seconds
            path = path if fault.path is None else fault.path
            error = error if fault.error is None else fault.error
            quietly = quietly or fault.quietly
        await asyncio.sleep(0 if task.weights == "late" else seconds)
        if quietly:
            return task.source_id
        if error is not None:
            raise RuntimeError(error) if isinstance(error, str) else error
        if not (mode and task.mirror and task.mirror.get("bucket_uri")):
            return task.source_id  # only extra files were downloaded, not the model
        node.path = path
        return path

    def _download_faults(self, task: NodeTask) -> list[DownloadFault]:
        """Return the faults of a download that happen now: where it has two parts, what takes time is the second."""
        faults = list(self._faults(DownloadFault, task.node_id))
        if task.weights != "first":
            faults = [fault for fault in faults if (fault.seconds is None) == (task.weights == "late")]
        self.triggered += faults
        return faults
