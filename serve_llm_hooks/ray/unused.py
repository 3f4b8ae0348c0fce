"""End what a replica has begun for a start that never comes. An ingress or a router imports the same, and has none."""

from __future__ import annotations

import asyncio
import threading

from . import early_core, prewarm, quick_imports

UNUSED_S = 600.0
_WHY = "no start has asked for it"
_has_begun = False


def end_later() -> None:
    """End it all after ``UNUSED_S``, in a thread, if no start has begun by then.

    The thread starts only then, where there is an event loop: who starts one waits until it runs, and while Ray Serve
    LLM is imported all cores are busy.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _in_a_thread(UNUSED_S)
    else:
        loop.call_later(UNUSED_S, _in_a_thread, 0.0)


def start_begins() -> None:
    """End what is for the imports before a start, and leave the rest to the start."""
    global _has_begun
    _has_begun = True
    quick_imports.end()


def _in_a_thread(after_s: float) -> None:
    timer = threading.Timer(after_s, _end)
    timer.name, timer.daemon = "serve-llm-hooks unused", True
    timer.start()


def _end() -> None:
    if not _has_begun:
        quick_imports.end()
        prewarm.throw_away(_WHY)
        early_core.throw_away(_WHY)
