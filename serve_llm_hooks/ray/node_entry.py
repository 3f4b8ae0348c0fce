"""What a Ray task on a node calls. Imported in a fresh process there, so: no torch, no vLLM, no Ray Serve."""

from __future__ import annotations

import asyncio
import faulthandler
import logging
import pickle
import sys
import threading
from typing import TYPE_CHECKING

from ..dispatch import WorkerThread, one_line
from ..node import run_task
from .log import show_log

if TYPE_CHECKING:
    from ..context import DownloadMode
    from ..node import NodeTask

__all__ = ["run_packed_task"]

_SHOWN_FILES = 3  # of those that could not be fetched, so many are named


def run_packed_task(data: bytes, limit_s: float) -> bytes:
    """A packed ``NodeTask`` in, a packed ``NodeReport`` out. Both are plain data.

    After ``limit_s`` the process ends, its threads' tracebacks in its log. Nobody waits for it any longer by then, and
    cancelling has not reached it: its raylet is stopped, or a hook blocks in C code that keeps the GIL. For that, the
    timer is one that needs no GIL.
    """
    show_log()
    faulthandler.dump_traceback_later(min(limit_s, threading.TIMEOUT_MAX), exit=True, file=2)
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
    around = f"ray.llm.{download_model_files.__module__.rpartition('.')[0]}"
    ray_loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith(around)]
    for ray_logger in ray_loggers:
        ray_logger.addHandler(swallowed)
    try:
        path = download_model_files(
            model_id=task.source_id,
            mirror_config=CloudMirrorConfig(**(task.mirror or {})),
            download_model=NodeModelDownloadable[mode.name],
            download_extra_files=True,
        )
    finally:
        for ray_logger in ray_loggers:
            ray_logger.removeHandler(swallowed)
    if swallowed.error is not None:
        raise RuntimeError(one_line(swallowed.error)) from swallowed.error
    if swallowed.files:
        raise RuntimeError("; ".join(swallowed.files[:_SHOWN_FILES]))
    return path


class _Swallowed(logging.Handler):
    """Keeps the first exception that is logged, and the files that could not be fetched: they are only logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: BaseException | None = None
        self.files: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.error = self.error or record.exc_info[1]
        elif (message := record.getMessage()).startswith("Failed to download"):
            # What is logged is still being handled. Of a connection that breaks, boto says only how often it tried.
            last = getattr(sys.exc_info()[1], "last_exception", None)
            message += f" ({one_line(last)})" if last else ""
            if message not in self.files:
                self.files.append(message)
