"""Find what works for a run, besides its event loop: calls in worker threads, and threads and subprocesses of hooks."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .idle import is_idle
from .locations import current_frames

if TYPE_CHECKING:
    import asyncio
    import subprocess
    import threading
    from collections.abc import Iterator, Mapping

    from .job import Job
    from .locations import HookLocation
    from .sleeper import Sleeper


WhatT = TypeVar("WhatT")


@dataclass(eq=False, frozen=True)
class Started(Generic[WhatT]):
    """A thread or a subprocess, and the hook that has started it.

    Attributes:
        what: the thread, or the subprocess.
        name: what to call it in messages.
        by: the hook; ``None`` if it is not known.
    """

    what: WhatT
    name: str
    by: HookLocation | None

    def __str__(self) -> str:
        return f"{self.by or 'the run'}, in its {self.name}"


@dataclass(eq=False)
class Belongings:
    """All that may be at work for a run, besides its event loop.

    Attributes:
        loops: the event loops that run in other threads, as that of hooks in the background does.
        abandoned: the async hooks that did not let themselves be cancelled when the loop was closed.
    """

    jobs: set[Job] = field(default_factory=set)
    threads: list[Started[threading.Thread]] = field(default_factory=list)
    processes: list[Started[subprocess.Popen[Any] | BaseProcess]] = field(default_factory=list)
    loops: list[asyncio.AbstractEventLoop] = field(default_factory=list)
    abandoned: list[HookLocation] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.jobs or self.threads or self.processes)

    def jobs_at_work(self, asleep: Mapping[int, Sleeper], *, others_sleep: bool) -> Iterator[Job]:
        """Yield the calls that are at work.

        Args:
            asleep: by thread id, the threads that wait.
            others_sleep: whether the clock will wake a thread, for which a call may be waiting.
        """
        jobs = tuple(self.jobs)
        busy = Counter(id(job.lane) for job in jobs if job.started and not job.ended)
        frames = current_frames() if others_sleep else {}
        for job in jobs:
            if not job.started:
                if busy[id(job.lane)] < job.lane_size:  # else it waits for its turn
                    yield job
                continue
            sleeper = asleep.get(job.thread_id)
            if job.ended or sleeper is None or sleeper.is_awake:
                if not others_sleep or job.ended or not is_idle(frames.get(job.thread_id)):
                    yield job
            elif sleeper.until_s is None and job.is_awaited and not others_sleep:
                yield job  # somebody outside of the run may wake it

    def others_at_work(self, asleep: Mapping[int, Sleeper]) -> Iterator[Started[Any]]:
        """Yield the threads and subprocesses that are at work.

        Args:
            asleep: by thread id, the threads that wait.
        """
        for process in tuple(self.processes):
            if _is_running(process.what):
                yield process
            else:
                self.processes.remove(process)
        frames = current_frames() if self.threads else {}
        for thread in tuple(self.threads):  # others may be added meanwhile
            thread_id = thread.what.ident or 0
            sleeper = asleep.get(thread_id)
            if not thread.what.is_alive():
                self.threads.remove(thread)
            elif sleeper is None or sleeper.is_awake:
                frame = frames.get(thread_id)
                if frame is None or not is_idle(frame):  # without a frame, it is about to begin or to end
                    yield thread


def _is_running(process: Any) -> bool:
    """Return whether a subprocess has not ended, and leave it to its owner to take note of that."""
    if isinstance(process, BaseProcess):
        return not connection.wait([process.sentinel], timeout=0)
    if process.returncode is not None:
        return False
    if not hasattr(os, "waitid"):  # on Windows, asking changes nothing
        return process.poll() is None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except ChildProcessError:
        return False
