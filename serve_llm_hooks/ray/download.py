"""Download a node's files with Ray's own downloader, and raise what it only logs."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import stat
import sys
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from .._core.errors import is_a
from .._core.messages import one_line
from .._core.worker_thread import WorkerThread

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.download_mode import DownloadMode
    from .._node.task import NodeTask


_CLOCK_STEP_S = 0.02  # by which the times of files may be behind the clock
_MOST_FILES = 10_000  # a download is measured by looking at so many at most: its folder may be shared, or everybody's
_SHOWN_FILES = 3  # an error names at most this many of the files that could not be downloaded


async def download(task: NodeTask, mode: DownloadMode) -> str | None:
    """Download in a thread, so that timeouts and cancellation reach the node's event loop; return the path."""
    thread = WorkerThread()
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, _download, task, mode)
    finally:
        thread.shutdown()


async def measure(task: NodeTask, path: str | None, since_s: float) -> int | None:
    """Return what ``new_bytes`` does; in a thread, since a folder may be on a slow disk."""
    thread = WorkerThread()
    try:
        return await asyncio.get_running_loop().run_in_executor(thread, new_bytes, task, path, since_s)
    finally:
        thread.shutdown()


def new_bytes(task: NodeTask, path: str | None, since_s: float) -> int | None:
    """Return the bytes of the files that a download has brought; ``None`` if there are none, or too many to look at.

    Args:
        task: says where extra files go.
        path: where the model is.
        since_s: when the download began, in seconds since the epoch. Older files were there before.
    """
    extra = [file.get("destination_path") for file in (task.mirror or {}).get("extra_files") or ()]
    written = [os.path.expanduser(os.path.expandvars(str(top))) for top in extra if top]  # as Ray's downloader does
    files = chain.from_iterable(_files(top) for top in (path, *written) if top)
    found: dict[tuple[int, int], int] = {}  # by what they are: a model's folder may have links to one file
    for file in islice(files, _MOST_FILES):
        with contextlib.suppress(OSError):
            status = os.stat(file)
            if stat.S_ISREG(status.st_mode) and status.st_ctime >= since_s - _CLOCK_STEP_S:
                found[status.st_dev, status.st_ino] = status.st_size
    if next(files, None) is not None:
        return None
    return sum(found.values()) or None


def _files(top: str) -> Iterator[str]:
    """Yield what is in a folder, folders too; itself if it is a file. Unlike ``os.walk``, read none ahead."""
    yield top
    folders = [top]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                yield entry.path


def _download(task: NodeTask, mode: DownloadMode) -> str | None:
    if task.weights == "only":
        return _download_weights(task)
    with _raise_logged_failures():
        return _download_model(task, mode)


@contextlib.contextmanager
def _raise_logged_failures() -> Iterator[None]:
    """Listen to the log of Ray's downloader, which logs some failures and returns normally; raise them at the end."""
    from .internals import CloudFileSystem

    logged = _LoggedFailures()
    around = f"ray.llm.{CloudFileSystem.__module__.rpartition('.')[0]}"
    ray_loggers = [logging.getLogger(name) for name in list(logging.root.manager.loggerDict) if name.startswith(around)]
    for ray_logger in ray_loggers:
        ray_logger.addHandler(logged)
    try:
        yield
    finally:
        for ray_logger in ray_loggers:
            ray_logger.removeHandler(logged)
    if logged.error is not None:
        raise RuntimeError(one_line(logged.error)) from logged.error
    if logged.files:
        raise RuntimeError("; ".join(logged.files[:_SHOWN_FILES]))


def _download_model(task: NodeTask, mode: DownloadMode) -> str | None:
    from .internals import CloudMirrorConfig, NodeModelDownloadable, download_model_files

    return download_model_files(
        model_id=task.source_id,
        mirror_config=CloudMirrorConfig(**(task.mirror or {})),
        download_model=NodeModelDownloadable["EXCLUDE_SAFETENSORS" if task.weights == "late" else mode.name],
        download_extra_files=True,
    )


def _download_weights(task: NodeTask) -> str | None:
    """Download what is left out of a model whose weights are late. One process does it where several would.

    In the file of the lock stands what was downloaded, once it is there. Who has waited looks for it, since the other
    download may have failed, or its process was killed.
    """
    from .internals import CloudFileSystem

    bucket_uri = str((task.mirror or {})["bucket_uri"])
    done = hashlib.sha256(f"{bucket_uri}\n{task.model_path}".encode()).hexdigest()
    lock = Path("~", f"{task.source_id.replace('/', '--')}-weights.lock").expanduser()  # beside Ray's own
    with lock.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if file.read() == done:
                return task.model_path
        file.truncate(0)
        with _raise_logged_failures():
            CloudFileSystem.download_files(
                path=str(task.model_path),
                bucket_uri=bucket_uri,
                substrings_to_include=[".safetensors"],
                suffixes_to_exclude=[".json"],  # the index, which is there
            )
        file.write(done)
        file.flush()  # while the lock is held
    return task.model_path


class _LoggedFailures(logging.Handler):
    """Keep the first exception that is logged, and the files that are logged as not downloaded."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.error: BaseException | None = None
        self.files: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info:
            self.error = record.exc_info[1] if self.error is None else self.error
        elif (message := record.getMessage()).startswith("Failed to download"):
            # The exception is still being handled here. Of a broken connection, boto's own text only counts attempts.
            with contextlib.suppress(Exception):  # an exception of others, of which anything may fail
                last = getattr(sys.exc_info()[1], "last_exception", None)
                message += f" ({one_line(last)})" if is_a(last, BaseException) else ""
            if message not in self.files:
                self.files.append(message)
