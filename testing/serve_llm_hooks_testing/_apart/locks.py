"""Give simulated processes locks of their own: a module's ``asyncio.Lock()`` is another one in each process."""

from __future__ import annotations

import asyncio
import copy
from asyncio import mixins
from typing import TYPE_CHECKING, Any

from .state import current_process

if TYPE_CHECKING:
    from contextlib import ExitStack

_OWN = "_is_of_one_process"
_real_get_loop = mixins._LoopBoundMixin._get_loop  # type: ignore[attr-defined]  # asyncio's own


def _own(lock: Any) -> Any:
    """Return a lock's copy in the process that asks. Nothing ever changes the lock itself, so all begin alike."""
    process = current_process()
    if process is None or hasattr(lock, _OWN):
        return lock
    if id(lock) not in process.locks:
        try:
            own = copy.copy(lock)
        except TypeError:  # a subclass that cannot be copied
            return lock
        own._loop = own._waiters = None
        setattr(own, _OWN, True)
        process.locks[id(lock)] = (lock, own)
    return process.locks[id(lock)][1]


def _delegating(real: Any) -> Any:
    def method(self: Any) -> Any:
        return real(_own(self))

    method.__name__ = method.__qualname__ = real.__name__
    return method


def _get_loop(self: Any) -> Any:
    """Return the running loop, as asyncio does, and note what is bound to it by that."""
    process = current_process()
    if process is not None and self._loop is None:
        process.bound.append(self)
    return _real_get_loop(self)


_REPLACED: list[tuple[Any, str, Any, Any]] = [
    (owner, name, vars(owner)[name], _delegating(vars(owner)[name]))
    for owner, names in (
        (asyncio.Lock, ("acquire", "release", "locked")),
        (asyncio.Semaphore, ("acquire", "release", "locked")),
        (asyncio.BoundedSemaphore, ("release",)),
    )
    for name in names
]
_REPLACED.append((mixins._LoopBoundMixin, "_get_loop", _real_get_loop, _get_loop))


def install_locks(undo: ExitStack) -> None:
    """Let simulated processes have locks and semaphores of their own, until ``undo`` is closed."""
    for owner, name, _, new in _REPLACED:
        setattr(owner, name, new)
    undo.callback(_restore)


def _restore() -> None:
    for owner, name, real, _ in _REPLACED:
        setattr(owner, name, real)
