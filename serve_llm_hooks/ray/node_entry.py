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
from ..progress import Progress
from .log import show_log

if TYPE_CHECKING:
    from ..context import DownloadMode
    from ..node import NodeTask

__all__ = ["run_packed_task"]

_CANCEL_S = 1.0  # what hooks have left running, and is cancelled, is given this long to clean up
_LEFT_OVER_S = 10.0  # and the process this long to end, once its report is there
_SHOWN_FILES = 3  # of those that could not be fetched, so many are named


def run_packed_task(data: bytes, limit_s: float) -> bytes:
    """A packed ``NodeTask`` in, a packed ``NodeReport`` out. Both are plain data.

    After ``limit_s`` the process ends, its threads' tracebacks in its log. Nobody waits for it any longer by then, and
    cancelling has not reached it: its raylet is stopped, or a hook blocks in C code that keeps the GIL. For that, the
    timer is one that needs no GIL. It is set once more, for what hooks have left behind: Python would wait for their
    threads before it lets the process end.
    """
    show_log()
    _end_process_after(limit_s)
    # Never closed, as `asyncio.run` would: that waits for tasks and threads without a limit, and the report would too.
    report = asyncio.Runner().run(_run(pickle.loads(data)))
    _end_process_after(_LEFT_OVER_S)
    return report


def _end_process_after(seconds: float) -> None:
    faulthandler.dump_traceback_later(min(seconds, threading.TIMEOUT_MAX), exit=True, file=2)


async def _run(task: NodeTask) -> bytes:
    """The task's report, packed; what its hooks have left running is cancelled, and not waited for for long."""
    with Progress(task.model_id, node_id=task.node_id) as progress:
        report = await run_task(task, download, progress=progress)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for each in left:
        each.cancel()
    if left:
        await asyncio.wait(left, timeout=_CANCEL_S)
    return pickle.dumps(report)


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
