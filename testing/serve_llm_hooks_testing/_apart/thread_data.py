"""Thread-local data: a thread that is used for several processes in turn has it anew for each."""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

LocalT = TypeVar("LocalT", bound="threading.local")

# CPython keeps a thread's part of each threading.local in a dict of the thread, under this and the object's address.
_PREFIX = "thread.local."
_dict_of_thread = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThreadState_GetDict", ctypes.pythonapi))
_kept: set[str] = set()


def keep(local: LocalT) -> LocalT:
    """Let what an object of this package holds be there all the time. Return the object."""
    _kept.add(f"{_PREFIX}{id(local):#x}")
    return local


def forget_thread_data() -> None:
    """Forget the thread-local data of the calling thread."""
    _take(_data_of_thread())


@contextmanager
def own_thread_data() -> Iterator[None]:
    """Let the calling thread have no thread-local data in the ``with`` block, and afterwards what it had before."""
    data = _data_of_thread()
    before = _take(data)
    try:
        yield
    finally:
        _take(data)
        data.update(before)


def _data_of_thread() -> dict[object, Any]:
    address = _dict_of_thread()
    if address is None:
        return {}
    data: dict[object, Any] = ctypes.cast(address, ctypes.py_object).value
    return data


def _take(data: dict[object, Any]) -> dict[object, Any]:
    keys = [key for key in data if isinstance(key, str) and key.startswith(_PREFIX) and key not in _kept]
    return {key: data.pop(key) for key in keys}
