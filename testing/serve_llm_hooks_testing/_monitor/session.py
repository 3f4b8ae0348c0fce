"""Run code in a virtual event loop under observation. While any run is observed, this process is instrumented."""

from __future__ import annotations

import gc
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from .._virtual_time.locations import is_own_frame, locate_frame
from .._virtual_time.loop import VirtualLoop
from .monitor import Monitor
from .ray_guard import RayGuard

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from .monitor import MakeLoop

_MIN_GC_THRESHOLD = 1000

_lock = threading.Lock()
_monitors: list[Monitor] = []
_instruments = ExitStack()


@contextmanager
def monitored_loop(limit_s: float, make_loop: MakeLoop = VirtualLoop) -> Iterator[Monitor]:
    """Make a virtual event loop for the ``with`` block, observed. Several at once, in several threads, are fine.

    Args:
        limit_s: seconds of real time for which a hook may block.
        make_loop: makes the loop, from the arguments ``real_sleep_limit_s`` and ``on_block``.
    """
    monitor = Monitor(limit_s, make_loop)
    with _lock:
        _monitors.append(monitor)
        if len(_monitors) == 1:
            _instrument()
    try:
        yield monitor
    finally:
        try:
            monitor.loop.finish()
        finally:
            with _lock:
                _monitors.remove(monitor)
                if not _monitors:
                    _instruments.close()
            monitor.note_remaining_threads()


def _instrument() -> None:
    # A full collection goes through all objects that are alive: during a run on many nodes, many and no garbage. With
    # Python's own threshold, collections take most of the run's time. So they are rarer, but not off.
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], max(thresholds[2], _MIN_GC_THRESHOLD))
    _instruments.callback(gc.set_threshold, *thresholds)

    start = threading.Thread.start

    def start_and_record(self: threading.Thread) -> None:
        start(self)
        caller = sys._getframe(1)
        if not is_own_frame(caller):  # our own threads end by themselves
            _record_thread(self, caller)

    threading.Thread.start = start_and_record  # type: ignore[method-assign]  # undone in the next line's callback
    _instruments.callback(setattr, threading.Thread, "start", start)

    ray_guard = RayGuard()
    ray_guard.install()
    _instruments.callback(ray_guard.remove)
    _watchdog.wake()


def _record_thread(thread: threading.Thread, caller: FrameType) -> None:
    thread_id = threading.get_ident()
    location = locate_frame(caller)
    for monitor in _monitors:
        # A thread that neither a hook nor the run's own thread has started is somebody else's, such as a test
        # runner's. During several runs at once, a thread that a sync hook has started may belong to any of them.
        if monitor.loop_thread_id == thread_id or (location is not None and len(_monitors) == 1):
            monitor.add_thread(thread, location)


class _Watchdog:
    """The thread that samples the event loops of all runs; it sleeps while there is none."""

    def __init__(self) -> None:
        self._awake = threading.Event()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="serve-llm-hooks", daemon=True)
            self._thread.start()
        self._awake.set()

    def _run(self) -> None:
        while True:
            self._awake.wait()
            with _lock:
                monitors = tuple(_monitors)
                if not monitors:
                    self._awake.clear()
                    continue
            for monitor in monitors:
                monitor.sample()
            time.sleep(min(monitor.sample_every_s for monitor in monitors))


_watchdog = _Watchdog()
