"""End what a replica has begun for a start that never comes. An ingress or a router imports the same, and has none."""

from __future__ import annotations

import asyncio
import threading

from . import early_core, prewarm, quick_imports

UNUSED_S = 600.0
_WHY = "no start has asked for it"


def end_later() -> None:
    """End it all after ``UNUSED_S``, if no start has used it by then.

    The event loop does it, where there is one: who starts a thread waits until that runs, and the cores are busy now.
    """
    try:
        asyncio.get_running_loop().call_later(UNUSED_S, end)
    except RuntimeError:
        timer = threading.Timer(UNUSED_S, end)
        timer.name, timer.daemon = "serve-llm-hooks unused", True
        timer.start()


def end() -> None:
    """End what no start has used."""
    quick_imports.end()
    prewarm.throw_away(_WHY)
    early_core.throw_away(_WHY)
