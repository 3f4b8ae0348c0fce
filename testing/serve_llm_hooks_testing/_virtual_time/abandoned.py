"""Keep tasks that do not let themselves be cancelled: to close one whose loop has gone may never end."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

from .locations import locate_awaitable

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from .locations import HookLocation


def keep_for_ever(tasks: Iterable[asyncio.Task[Any]]) -> list[HookLocation]:
    """Keep those tasks that are not done, also when Python ends; return the hooks that they are in.

    Python closes a coroutine that nobody has any more. ``except: pass`` in a loop catches that too, and without an
    event loop each ``asyncio.sleep`` behind it fails at once: the loop spins for ever.
    """
    left = [task for task in tasks if not task.done()]
    for task in left:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))  # a list would be emptied when Python ends
    locations = (locate_awaitable(task.get_coro()) for task in left)
    return [location for location in locations if location is not None]


def close_at_once(loop: Any, tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Close a virtual loop, without running anything more of its tasks."""
    loop.clock.belongings.abandoned += keep_for_ever(tasks)
    loop.clock.end()
    loop._hook_threads.release()
    loop.close()
