"""Put back what modules of hooks held before: processes of an earlier start have ended, and these with them."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections import deque
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CONTAINERS = (dict, list, set, deque)
_LOCK = type(threading.Lock())
_OF_ASYNCIO = (asyncio.Lock, asyncio.Event, asyncio.Semaphore, asyncio.Condition, asyncio.Queue)
_MISSING = object()


class ModuleState:
    """The contents of modules: their globals, what is in their containers, and what their classes and functions keep.

    Clients of other libraries stay as they are.

    Args:
        modules: the modules.
    """

    def __init__(self, modules: Iterable[ModuleType]) -> None:
        self._contents: list[tuple[Any, Any]] = []
        self._caches: list[Any] = []
        self._locks: list[Any] = []
        seen: set[int] = {id(sys.modules)}
        for module in modules:
            self._keep(module, module.__name__, seen)

    def restore(self) -> None:
        """Put everything back."""
        for owner, contents in self._contents:
            if isinstance(owner, _CONTAINERS):
                _refill(owner, contents)
            else:
                _set_back(owner, contents)
        for cache in self._caches:
            cache.cache_clear()
        for lock in self._locks:
            if lock.locked():  # by a hook of a process that has ended
                lock.release()

    def _keep(self, value: Any, module: str, seen: set[int]) -> None:
        if id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, _CONTAINERS):
            self._contents.append((value, value.copy()))
            parts: Iterable[Any] = list(value.values()) if isinstance(value, dict) else list(value)
        elif isinstance(value, _LOCK):
            if not value.locked():
                self._locks.append(value)
            return
        elif _is_of(value, module):
            self._contents.append((value, dict(vars(value))))
            parts = _parts(value)
        else:
            return
        if hasattr(value, "cache_clear"):
            self._caches.append(value)
        for part in parts:
            self._keep(part, module, seen)


def _is_of(value: Any, module: str) -> bool:
    """Return whether what a value holds belongs to a module: its own functions and classes, and their objects."""
    if isinstance(value, ModuleType):
        return value.__name__ == module
    if isinstance(value, type | FunctionType) or hasattr(value, "cache_clear"):
        return getattr(value, "__module__", None) == module and hasattr(value, "__dict__")
    return (type(value).__module__ == module or isinstance(value, _OF_ASYNCIO)) and hasattr(value, "__dict__")


def _parts(value: Any) -> Iterator[Any]:
    yield from list(vars(value).values())
    if isinstance(value, FunctionType):
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()


def _refill(owner: Any, contents: Any) -> None:
    items = [*owner.items()] if isinstance(owner, dict) else [(None, each) for each in owner]
    before = [*contents.items()] if isinstance(owner, dict) else [(None, each) for each in contents]
    if len(items) != len(before) or any(
        key is not old_key or value is not old_value
        for (key, value), (old_key, old_value) in zip(items, before, strict=True)
    ):
        owner.clear()
        getattr(owner, "extend" if isinstance(owner, list | deque) else "update")(contents)


def _set_back(owner: Any, contents: dict[str, Any]) -> None:
    set_, delete = (setattr, delattr) if isinstance(owner, type) else (_set_in_dict, _delete_in_dict)
    for name in [name for name in vars(owner) if name not in contents and not name.startswith("__")]:
        delete(owner, name)
    for name, value in contents.items():
        if not name.startswith("__") and vars(owner).get(name, _MISSING) is not value:
            set_(owner, name, value)


def _set_in_dict(owner: Any, name: str, value: Any) -> None:
    vars(owner)[name] = value


def _delete_in_dict(owner: Any, name: str) -> None:
    del vars(owner)[name]
