"""Do a node's task in a fresh process there, which has to import this: no torch, no vLLM, no Ray Serve."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import pickle
import signal
import threading
from typing import TYPE_CHECKING

from .._core.errors import expect_no_interrupt
from .._node.work import run_task
from .._observe.progress import Progress
from .._observe.written import Written
from .download import download, measure
from .log import show_log
from .node_news import telling

if TYPE_CHECKING:
    from .._node.task import NodeTask


_CANCEL_S = 1.0  # tasks that hooks left running, and that are cancelled, have this long to clean up
_LEFT_OVER_S = 10.0  # the process has this long to end, once its report is there


def run(data: bytes, limit_s: float, news_key: str, news_s: float) -> bytes:
    """Run a packed task: see :func:`.node_entry.run_packed_task`.

    After ``limit_s`` the process ends, with its threads' tracebacks in its log. Nobody waits for it by then, and
    cancelling has not reached it: its raylet is stopped, or a hook blocks in C code that keeps the GIL. So the timer
    is one that needs no GIL. It is set again for what hooks leave behind, since Python waits for their threads before
    it lets the process end.
    """
    show_log()
    _end_process_after(limit_s)
    expect_no_interrupt()
    # Never closed, as `asyncio.run` would: that waits for tasks and threads without a limit, and delays the report.
    try:
        report = asyncio.Runner().run(_run(pickle.loads(data), news_key, news_s))
    except asyncio.CancelledError:  # by Ray, which knows a cancelled task by this
        raise KeyboardInterrupt from None
    _end_process_after(_LEFT_OVER_S)
    return report


def _end_process_after(seconds: float) -> None:
    faulthandler.dump_traceback_later(min(seconds, threading.TIMEOUT_MAX), exit=True, file=2)


async def _run(task: NodeTask, news_key: str, news_s: float) -> bytes:
    """Return the task's report, pickled; cancel the tasks that its hooks left running, without waiting long."""
    _cancel_when_interrupted()
    try:
        progress, written = Progress(task.model_id, node=task.node, more=Written().since_last), Written()
        with progress, telling(news_key, news_s, lambda: progress.now + written.since_last()):
            report = await run_task(task, download, progress=progress, measure=measure)
    finally:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for each in left:
            each.cancel()
        if left:
            await asyncio.wait(left, timeout=_CANCEL_S)
    return pickle.dumps(report)


def _cancel_when_interrupted() -> None:
    """Let Ray's cancelling, which is an interrupt of the main thread, cancel the current task.

    By the event loop: it wakes up whichever loop it is, and also where a parent of this process ignores interrupts
    (`nohup`), for which Ray's interrupt would do nothing.
    """
    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(
            ValueError, RuntimeError, NotImplementedError
        ):  # not in a main thread of Linux or macOS
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
