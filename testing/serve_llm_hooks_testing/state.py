"""Which globals hooks share between processes that do not share any."""

from __future__ import annotations

import os
import sys
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.hook import MARK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from serve_llm_hooks import Hook

__all__ = ["GlobalName", "fingerprints", "globals_of"]

GlobalName = tuple[str, str]
"""A module's name, and a name in it. ``("os", "environ")`` stands for the environment variables."""

_ENVIRON: GlobalName = ("os", "environ")
_IMMUTABLE = (str, bytes, int, float, complex, bool, type(None), range)


def globals_of(hook: Hook) -> set[GlobalName]:
    """The module globals that a hook uses, or what it calls in its own module or class."""
    found: set[GlobalName] = set()
    cls: type | None = None
    if hook.instance is not None:
        owner = hook.instance.owner
        cls = owner if isinstance(owner, type) else type(owner)
        fn = getattr(cls, hook.method or "__call__", None)  # the latter: an object that serves as a phase function
        if isinstance(owner, FunctionType):
            fn, cls = owner, None
    else:
        fn = hook.fn
    fn = getattr(fn, "__wrapped__", fn)
    if isinstance(fn, FunctionType):
        _collect(fn, cls, found, set())
    return found


def fingerprints(names: Iterable[GlobalName]) -> dict[GlobalName, object]:
    """What these globals hold now, in a form that can be compared later."""
    return {name: _fingerprint(_value(name)) for name in names}


def _collect(fn: FunctionType, cls: type | None, found: set[GlobalName], seen: set[int]) -> None:
    if id(fn) in seen:
        return
    seen.add(id(fn))
    module = str(fn.__globals__.get("__name__", "?"))
    for name in _names(fn.__code__):
        if name in ("environ", "getenv", "putenv"):
            found.add(_ENVIRON)
        held = getattr(cls, name, _Nothing)
        if isinstance(held, FunctionType):
            _collect(held, cls, found, seen)
        elif cls is not None and held is not _Nothing:  # what all its objects share is the class's, and so a process's
            found.add((cls.__module__, cls.__qualname__))
        value = fn.__globals__.get(name, _Nothing)
        if isinstance(value, FunctionType):
            if value.__globals__ is fn.__globals__:
                _collect(value, None, found, seen)
            if set(vars(value)) - {MARK}:
                found.add((module, name))
        elif not isinstance(value, ModuleType):
            found.add((module, name))


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


class _Nothing:
    """No such global (yet)."""


def _value(name: GlobalName) -> Any:
    if name == _ENVIRON:
        return dict(os.environ)
    return vars(sys.modules[name[0]]).get(name[1], _Nothing) if name[0] in sys.modules else _Nothing


def _fingerprint(value: Any) -> object:
    import cloudpickle

    if isinstance(value, _IMMUTABLE):
        return value
    if isinstance(value, FunctionType):
        value = {key: held for key, held in vars(value).items() if key != MARK}
    elif isinstance(value, type):
        value = {key: held for key, held in vars(value).items() if not key.startswith("__") and not callable(held)}
    try:
        return cloudpickle.dumps(value)
    except Exception:  # a lock, a client: what cannot be pickled is compared by what it shows
        return repr(value)
