"""Tell which sockets of an event loop somebody may be waiting for."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_WAIT = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]  # asyncio's own: what asyncio.wait() awaits


def awaited_sockets(
    loop: asyncio.AbstractEventLoop, sockets: Sequence[int], job_futures: Iterable[object]
) -> Iterator[int]:
    """Yield the descriptors of sockets for which a task may be waiting.

    None, if all tasks wait for timers, worker threads or each other: nobody asks a connection that a client keeps open.
    Sockets that listen are left out, too, and those whose other end the loop watches itself: there, it is a task of its
    own that will answer.

    Args:
        loop: the event loop.
        sockets: the descriptors of those that it watches, without its own.
        job_futures: the futures of calls in worker threads.
    """
    if _is_answer_awaited(loop, job_futures):
        own_ends: set[object] = set()
        if len(sockets) > 1:
            own_ends.update(_ask(descriptor, socket.socket.getsockname) for descriptor in sockets)
        for descriptor in sockets:
            peer = _ask(descriptor, socket.socket.getpeername) if own_ends else None
            if not _is_listening(descriptor) and not (peer and peer in own_ends):
                yield descriptor


def _is_answer_awaited(loop: asyncio.AbstractEventLoop, job_futures: Iterable[object]) -> bool:
    """Return whether a task waits for something other than a timer, a worker thread or another task."""
    timers: Iterable[asyncio.TimerHandle] = loop._scheduled  # type: ignore[attr-defined]  # asyncio's own
    known = {id(each) for timer in timers for each in timer._args or ()}
    known.update(map(id, job_futures))
    for task in asyncio.all_tasks(loop):
        future = getattr(task, "_fut_waiter", None)
        if future is None or isinstance(future, asyncio.Task) or getattr(future, "_children", None):
            continue
        if id(future) not in known and not _is_waiting_for_tasks(task):
            return True
    return False


def _is_waiting_for_tasks(task: asyncio.Task[Any]) -> bool:
    """Return whether a task is in ``asyncio.wait``."""
    awaitable: Any = task.get_coro()
    while (inner := getattr(awaitable, "cr_await", None)) is not None and hasattr(inner, "cr_code"):
        awaitable = inner
    return getattr(awaitable, "cr_code", None) is _WAIT


def _is_listening(descriptor: int) -> bool:
    """Return whether a descriptor is that of a socket which waits for connections."""
    return bool(_ask(descriptor, lambda borrowed: borrowed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)))


def _ask(descriptor: int, question: Callable[[socket.socket], Any]) -> Any:
    """Return what a socket says; ``None`` where a descriptor is none, or has no answer."""
    try:
        borrowed = socket.socket(fileno=descriptor)
    except OSError:  # a pipe
        return None
    try:
        return question(borrowed)
    except OSError:
        return None
    finally:
        borrowed.detach()
