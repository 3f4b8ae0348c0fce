"""A download on a node: how long it takes, and how it fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serve_llm_hooks import DownloadMode
    from serve_llm_hooks._node.task import NodeTask

    from ..run import FakeNode
    from .fault_kinds import DownloadFault


async def download(
    node: FakeNode, task: NodeTask, mode: DownloadMode, seconds: float, faults: Iterable[DownloadFault]
) -> str | None:
    """Take the time of a download, and fail as faults say. Return the path of the model on the node.

    Where the weights are late, all else takes no time.

    Raises:
        Exception: what a fault says.
    """
    if task.weights != "only":
        node.downloaded.append(mode)
    path = f"/models/{task.source_id}"
    error: Exception | str | None = None
    quietly = False
    for fault in faults:
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


def happens_now(fault: DownloadFault, task: NodeTask) -> bool:
    """Return True for a fault of this download: where it has two parts, what takes time is the second."""
    return task.weights == "first" or (fault.seconds is None) == (task.weights == "late")
