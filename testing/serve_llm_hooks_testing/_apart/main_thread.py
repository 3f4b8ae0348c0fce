"""Let the replica's event loop seem to be outside of the main thread, as it is under Serve, and a node's inside."""

from __future__ import annotations

import signal
import threading
from asyncio import _get_running_loop
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .state import ApartLoop, current_process

if TYPE_CHECKING:
    from contextlib import ExitStack

    from .state import ProcessState

_signal: Any = import_module("_signal")  # of signal.py's functions, those that work in the main thread only
_real_main_thread = threading.main_thread
_real_signal = _signal.signal
_real_set_wakeup_fd = signal.set_wakeup_fd
_elsewhere = threading.Thread(name="MainThread")  # what the replica's main thread is for its event loop


def _process_of_loop() -> ProcessState | None:
    """Return the simulated process whose event loop calls; ``None`` in other threads, which are no main threads."""
    process = current_process()
    return process if process is not None and isinstance(_get_running_loop(), ApartLoop) else None


def _main_thread() -> threading.Thread:
    """Return the main thread, as ``threading.main_thread``; in a run, that of the simulated process."""
    process = _process_of_loop()
    if process is None:
        return _real_main_thread()
    return threading.current_thread() if process.loop_in_main_thread else _elsewhere


def _set_signal(signalnum: int, handler: Any, /) -> Any:
    """Set a handler, as ``signal.signal``; on a node, until its process ends.

    Raises:
        ValueError: as Python says it.
    """
    process = _process_of_loop()
    if process is None:
        return _real_signal(signalnum, handler)
    if not process.loop_in_main_thread:
        raise ValueError("signal only works in main thread of the main interpreter")
    if threading.current_thread() is not _real_main_thread():  # an async test: the run is in another thread
        return _signal.getsignal(signalnum)
    before = _real_signal(signalnum, handler)
    process.signals.setdefault(signalnum, before)
    return before


def _set_wakeup_fd(fd: int, /, *, warn_on_full_buffer: bool = True) -> int:
    """Set the descriptor that signals are written to, as ``signal.set_wakeup_fd``.

    Raises:
        ValueError: as Python says it.
    """
    process = _process_of_loop()
    if process is None:
        return _real_set_wakeup_fd(fd, warn_on_full_buffer=warn_on_full_buffer)
    if not process.loop_in_main_thread:
        raise ValueError("set_wakeup_fd only works in main thread of the main interpreter")
    return -1


def install_main_threads(undo: ExitStack) -> None:
    """Let each simulated process have a main thread, until ``undo`` is closed."""
    for owner, name, new in (
        (threading, "main_thread", _main_thread),
        (_signal, "signal", _set_signal),
        (signal, "set_wakeup_fd", _set_wakeup_fd),
    ):
        undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, new)
