"""Tell whether a thread is at work, or waits for work: a pool's, a server's, one that reads a queue."""

from __future__ import annotations

import threading
from itertools import takewhile
from typing import TYPE_CHECKING

from .stacks import stack_of

if TYPE_CHECKING:
    from types import FrameType

# The modules in which threads of the standard library wait for something to do.
_WAITING = frozenset(("asyncio", "concurrent", "logging", "multiprocessing", "queue", "selectors", "socketserver"))
# What else may be on the stack of such a thread.
_HARNESS = __name__.partition(".")[0]
_LIBRARY = _WAITING | {"contextvars", "http", "socket", "threading", _HARNESS}
_JOINS = ("join", "_wait_for_tstate_lock", "wait")
# asyncio's thread that waits for a subprocess, and then tells the event loop.
_WAITS_FOR_PROCESS = "_do_waitpid"
_START = threading.Thread.start.__code__


def is_idle(frame: FrameType | None) -> bool:
    """Return whether a thread whose innermost frame this is waits for other threads, or for something to do."""
    if frame is None:
        return True
    module = _module(frame)
    if module == "threading":
        return frame.f_code.co_name in _JOINS and not is_starting(frame) and not _has_joined(frame)
    if module not in _WAITING:
        return False
    stack = stack_of(frame)
    return all(_module(each) in _LIBRARY and each.f_code.co_name != _WAITS_FOR_PROCESS for each in stack)


def is_of_harness(frame: FrameType) -> bool:
    """Return whether a thread whose innermost frame this is waits in this package, or works for it."""
    return _module(frame) == _HARNESS


def is_starting(frame: FrameType | None) -> bool:
    """Return whether a thread waits for one that it has just started, and that will be there in a moment."""
    library = takewhile(lambda each: _module(each) in _LIBRARY, stack_of(frame))
    return any(each.f_code is _START for each in library)


def _has_joined(frame: FrameType) -> bool:
    """Return whether the thread for which this one waits has ended, so that it goes on in a moment."""
    joined = frame.f_locals.get("self")
    return isinstance(joined, threading.Thread) and not joined.is_alive()


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
