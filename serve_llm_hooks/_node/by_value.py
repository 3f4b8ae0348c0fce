"""Pickle by value what another process cannot import, and say what a pickle still sends by its name."""

from __future__ import annotations

import functools
import io
import pickle
import sys
from collections import ChainMap
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cloudpickle
from cloudpickle.cloudpickle import list_registry_pickle_by_value

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping


_MAIN = ("__main__", "__mp_main__")
_Cached = type(functools.cache(int))


def dumps(obj: object) -> bytes:
    """Pickle as cloudpickle does, and a function under ``functools.cache`` or ``lru_cache`` as it does the function.

    cloudpickle sends such a function by its name, also out of a module that travels by value. What it has cached does
    not travel.
    """
    with io.BytesIO() as file:
        _Pickler(file).dump(obj)
        return file.getvalue()


def names_in(data: bytes) -> set[tuple[str, str]]:
    """Return what a pickle sends by name, as module and name; for a whole module, the name is empty.

    Nothing is imported and nothing is called.
    """
    found: set[tuple[str, str]] = set()
    try:
        _Reader(data, found).load()
    except Exception:  # an unusual pickle; what was found until then is still true
        return found
    return found


def travels_by_value(module: str) -> bool:
    """Return True for a module that other processes do not import: the running script, a file loaded by its path."""
    registered = list_registry_pickle_by_value()
    parts = module.split(".")
    return module in _MAIN or any(".".join(parts[: count + 1]) in registered for count in range(len(parts)))


def siblings_in(names: set[tuple[str, str]], file: str) -> set[str]:
    """Return the modules and packages among the names in a pickle that lie beside a hooks file."""
    folder = Path(file).resolve().parent
    tops = {module.partition(".")[0] for module, _ in names}
    return {top for top in tops if any(at in (folder / top, folder / f"{top}.py") for at in _places(top))}


def _places(top: str) -> list[Path]:
    """Return the file of a module; of a package its folder, or, without an ``__init__.py``, its folders."""
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None)
    return [Path(each).resolve() for each in (getattr(module, "__path__", None) or ([file] if file else ()))]


def _reduce_cached(cached: Any) -> str | tuple[Any, ...]:
    module, name = cached.__module__, cached.__qualname__
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is cached and not travels_by_value(module):
        return str(name)
    own = {key: value for key, value in vars(cached).items() if key not in ("__wrapped__", "cache_parameters")}
    return _cached_again, (cached.__wrapped__, cached.cache_parameters()), own


def _cached_again(fn: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return functools.lru_cache(**parameters)(fn)


class _Pickler(cloudpickle.Pickler):
    dispatch_table: ClassVar[MutableMapping[type, Callable[[Any], Any]]] = ChainMap(
        {_Cached: _reduce_cached}, cloudpickle.Pickler.dispatch_table
    )


class _Reader(pickle.Unpickler):
    """Reads a pickle for the names in it: everything that it would make is a ``_Nothing``."""

    def __init__(self, data: bytes, found: set[tuple[str, str]]) -> None:
        super().__init__(io.BytesIO(data))
        self._found = found

    def find_class(self, module: str, name: str) -> Any:
        self._found.add((module, name))
        return self._imported if name == "subimport" else _Nothing  # how cloudpickle sends a module

    def _imported(self, module: str) -> _Nothing:
        self._found.add((module, ""))
        return _Nothing()


class _Nothing:
    """Takes whatever a pickle does with an object."""

    def __new__(cls, *args: object, **kwargs: object) -> _Nothing:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None: ...

    def __call__(self, *args: object, **kwargs: object) -> _Nothing:
        return self

    def __setstate__(self, state: object) -> None: ...

    def __setitem__(self, key: object, value: object) -> None: ...

    def append(self, item: object) -> None:
        """Take an item of a list."""

    extend = add = append
