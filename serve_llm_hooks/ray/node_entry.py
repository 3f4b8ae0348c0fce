"""What a Ray task on a node calls. Imported in a fresh process there, so: no torch, no vLLM, no Ray Serve."""

from __future__ import annotations

import asyncio
import logging
import pickle
from typing import TYPE_CHECKING

from ..dispatch import WorkerThread, one_line
from ..node import run_task
from .log import show_log

if TYPE_CHECKING:
    from ..context import DownloadMode
    from ..node import NodeTask

__all__ = ["run_packed_task"]


def run_packed_task(data: bytes) -> bytes:
    """A packed ``NodeTask`` in, a packed ``NodeReport`` out. Both are plain data."""
    show_log()
    return pickle.dumps(asyncio.run(run_task(pickle.loads(data), download)))


async def download(task: NodeTask, mode: DownloadMode) -> str | None:
    """Ray's own download, in a thread, so that timeouts and cancellation reach the node's event loop."""
    thread = WorkerThread()
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, _download, task, mode)
    finally:
        thread.shutdown()


def _download(task: NodeTask, mode: DownloadMode) -> str | None:
    from .internals import CloudMirrorConfig, NodeModelDownloadable, download_model_files

    # Ray's downloader logs some failures and goes on as if nothing were wrong; what it logs is listened to.
    swallowed = _Swallowed()
    ray_logger = logging.getLogger(f"ray.llm.{download_model_files.__module__}")
    ray_logger.addHandler(swallowed)
    try:
        path = download_model_files(
            model_id=task.source_id,
            mirror_config=CloudMirrorConfig(**(task.mirror or {})),
            download_model=NodeModelDownloadable[mode.name],
            download_extra_files=True,
        )
    finally:
        ray_logger.removeHandler(swallowed)
    if swallowed.error is not None:
        raise RuntimeError(one_line(swallowed.error)) from swallowed.error
    return path


class _Swallowed(logging.Handler):
    """Keeps the first exception that is logged."""

    error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and self.error is None:
            self.error = record.exc_info[1]
