"""Note what hooks start: threads and the calls of pools are in the virtual time of the run, subprocesses waited for."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from serve_llm_hooks._core.loop_thread import LoopThread

from .._apart.environ import environment_of_subprocess
from .._apart.state import current_process
from .belongings import Started
from .job import Job, PoolCall
from .locations import is_own_frame, locate_frame
from .sleeper import next_change
from .system_clocks import current_clock, in_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future
    from contextlib import ExitStack

    from .._apart.state import ProcessState
    from .clock import VirtualClock

_STARTS_BACKGROUND = LoopThread.__init__.__code__
_real_start = threading.Thread.start
_real_join = threading.Thread.join
_real_submit = ThreadPoolExecutor.submit
_real_popen = subprocess.Popen.__init__
_real_process_start = BaseProcess.start
# Among the arguments of Popen, which hardly anybody gives by their places.
_PLACE_OF_ENV = 10
_ended: WeakKeyDictionary[threading.Thread, threading.Event] = WeakKeyDictionary()  # of threads of runs


def pool_call(clock: VirtualClock, pool: Executor, job: Job, function: Callable[..., Any]) -> PoolCall:
    """Return a job's function as it is given to a pool of threads."""
    job.lane, job.lane_size = pool, getattr(pool, "_max_workers", float("inf"))

    def end(job: Job) -> None:
        job.ended = True
        if job.is_over:
            clock.belongings.jobs.discard(job)
        clock.wake_loop()

    clock.belongings.jobs.add(job)
    next_change()
    return PoolCall(job, function, partial(in_run, clock, current_process()), end)


def _start(self: threading.Thread) -> None:
    """Start a thread, as ``threading.Thread.start``; in a run, it is the run's too."""
    clock = current_clock()
    if clock is None:
        _real_start(self)
        return
    caller = sys._getframe(1)
    # Our own threads are in no run, and end by themselves; but for that of the background, which runs hooks.
    is_own = is_own_frame(caller) and caller.f_code is not _STARTS_BACKGROUND
    process = current_process()
    if not is_own:
        ended = _ended[self] = threading.Event()
        if process is not None:
            process.threads.append(self)
        self.run = _in_run(clock, process, self, ended)  # type: ignore[method-assign]  # of this one thread
    with in_run(None):  # it waits, really, until the thread is there
        _real_start(self)
    if not is_own:
        clock.belongings.threads.append(Started(self, f"thread {self.name!r}", locate_frame(caller)))
        next_change()


def _join(self: threading.Thread, timeout: float | None = None) -> None:
    """Wait until a thread ends, as ``threading.Thread.join``; in a run, a timeout is virtual."""
    ended = _ended.get(self)
    if timeout is None or timeout <= 0 or ended is None or current_clock() is None or ended.wait(timeout):
        _real_join(self, None if timeout is not None and ended is not None and ended.is_set() else timeout)


def _in_run(
    clock: VirtualClock, process: ProcessState | None, thread: threading.Thread, ended: threading.Event
) -> Callable[[], None]:
    function = thread.run

    def run() -> None:
        try:
            with in_run(clock, process):
                function()
        except SystemExit:
            if process is None or not process.is_over:
                raise
        finally:
            ended.set()
            if process is not None:
                process.forget_thread(thread)
            clock.wake_loop()

    return run


def _submit(self: ThreadPoolExecutor, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
    """Submit a call to a pool, as ``ThreadPoolExecutor.submit``; in a run, it is the run's too."""
    clock = current_clock()
    if clock is not None and not isinstance(fn, PoolCall):
        fn = pool_call(clock, self, Job(is_awaited=False), fn)
    return _real_submit(self, fn, *args, **kwargs)


def _popen(self: Any, *args: Any, **kwargs: Any) -> None:
    """Start a subprocess, as ``subprocess.Popen``; in a run, its clock waits for it."""
    if len(args) <= _PLACE_OF_ENV and kwargs.get("env") is None:
        kwargs["env"] = environment_of_subprocess()
    _real_popen(self, *args, **kwargs)
    clock = current_clock()
    if clock is not None:
        clock.belongings.processes.append(Started(self, f"process {self.pid}", locate_frame(sys._getframe(1))))


def _start_process(self: BaseProcess) -> None:
    """Start a process, as ``multiprocessing.Process.start``; in a run, its clock waits for it."""
    _real_process_start(self)
    clock, caller = current_clock(), sys._getframe(1)
    is_of_pool = str(caller.f_globals.get("__name__", "")).startswith(("concurrent.", "multiprocessing."))
    if clock is not None and not is_of_pool:
        clock.belongings.processes.append(Started(self, f"process {self.pid}", locate_frame(caller)))


def install_notes_of_started(undo: ExitStack) -> None:
    """Note what threads of runs start, until ``undo`` is closed."""
    for owner, name, new in (
        (threading.Thread, "start", _start),
        (threading.Thread, "join", _join),
        (ThreadPoolExecutor, "submit", _submit),
        (subprocess.Popen, "__init__", _popen),
        (BaseProcess, "start", _start_process),
    ):
        undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, new)
