"""Thread-local data: a thread that is used for several processes in turn has it anew for each."""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import threading

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
    data = _data_of_thread()
    for key in _keys(data):
        data.pop(key, None)  # its object may just have been collected


class ThreadData:
    """The thread-local data of the calling thread, as it is now: modules may have set it when they were imported."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        data = _data_of_thread()
        for key in _keys(data):
            local = _local_of(key, data)
            if local is not None:
                own = vars(local)
                self._before[key] = (own, own.copy())

    def restore(self) -> None:
        """Make it as it was."""
        data = _data_of_thread()
        for key in _keys(data):
            if key in self._before:
                own, before = self._before[key]
                own.clear()
                own.update(before)
            else:
                data.pop(key, None)


def _local_of(key: str, data: dict[object, Any]) -> object | None:
    """Return the object whose data this thread keeps under a key; ``None`` if it has been collected meanwhile."""
    address = int(key.removeprefix(_PREFIX), 16)
    references = ctypes.c_ssize_t.from_address(address)  # the first field of each object; it is read below
    cell = ctypes.c_void_p(address)
    there = ctypes.py_object.from_buffer(cell)
    # In one expression without a call: Python changes the thread, or collects, in none of its steps.
    return there.value if key in data and references.value > 0 else None


def _data_of_thread() -> dict[object, Any]:
    address = _dict_of_thread()
    if address is None:
        return {}
    data: dict[object, Any] = ctypes.cast(address, ctypes.py_object).value
    return data


def _keys(data: dict[object, Any]) -> list[str]:
    while True:
        try:
            keys = list(data)
        except RuntimeError:  # an object was collected meanwhile
            continue
        return [key for key in keys if isinstance(key, str) and key.startswith(_PREFIX) and key not in _kept]
