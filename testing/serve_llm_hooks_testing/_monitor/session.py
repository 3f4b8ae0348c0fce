"""Run code in a virtual event loop under observation. While any run is observed, this process is instrumented."""

from __future__ import annotations

import gc
import threading
from contextlib import ExitStack, contextmanager
from time import sleep
from typing import TYPE_CHECKING

from .._apart.environ import install_environments
from .._apart.locks import install_locks
from .._apart.main_thread import install_main_threads
from .._virtual_time.loop import VirtualLoop
from .._virtual_time.started import install_notes_of_started
from .._virtual_time.system_clocks import in_run, install_clocks
from .._virtual_time.thread_loops import install_thread_loops
from .._virtual_time.waits import install_waits
from .monitor import TIME_LIMIT_S, Monitor
from .ray_guard import RayGuard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .monitor import MakeLoop

_MIN_GC_THRESHOLD = 1000

_lock = threading.Lock()
_monitors: list[Monitor] = []
_instruments = ExitStack()


@contextmanager
def monitored_loop(
    limit_s: float,
    time_limit_s: float = TIME_LIMIT_S,
    make_loop: MakeLoop = VirtualLoop,
    kept: Monitor | None = None,
) -> Iterator[Monitor]:
    """Make a virtual event loop for the ``with`` block, observed. Several at once, in several threads, are fine.

    Where :meth:`Monitor.keep` is called in the block, its loop stands still afterwards, and is not closed.

    Args:
        limit_s: seconds of real time for which a hook may block.
        time_limit_s: virtual seconds after which a run is taken for one that never ends.
        make_loop: makes the loop, from the arguments of :class:`VirtualLoop`.
        kept: one that was kept before, whose loop goes on; it is closed now.
    """
    monitor = kept or Monitor(limit_s, time_limit_s, make_loop)
    monitor.go_on()
    with _lock:
        _monitors.append(monitor)
        if len(_monitors) == 1:
            _instrument()
    try:
        with in_run(monitor.loop.clock):
            try:
                yield monitor
            finally:
                if not monitor.is_kept:
                    monitor.loop.finish()
                monitor.thread_data.restore()
    finally:
        with _lock:
            _monitors.remove(monitor)
            if not _monitors:
                _instruments.close()
        if not monitor.is_kept:
            monitor.note_remains()


def _instrument() -> None:
    # A full collection goes through all objects that are alive: during a run on many nodes, many and no garbage. With
    # Python's own threshold, collections take most of the run's time. So they are rarer, but not off.
    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], max(thresholds[2], _MIN_GC_THRESHOLD))
    _instruments.callback(gc.set_threshold, *thresholds)

    install_clocks(_instruments)
    install_waits(_instruments)
    install_thread_loops(_instruments)
    install_notes_of_started(_instruments)
    install_environments(_instruments)
    install_main_threads(_instruments)
    install_locks(_instruments)
    ray_guard = RayGuard()
    ray_guard.install()
    _instruments.callback(ray_guard.remove)
    _watchdog.wake()


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
            sleep(min(monitor.sample_every_s for monitor in monitors))


_watchdog = _Watchdog()
