"""Module globals that hooks use. Processes do not share them, which a fake run in one process would hide."""

from __future__ import annotations

import os
import sys
from types import CodeType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HOOK_POINTS
from serve_llm_hooks._core.hook import MARK
from serve_llm_hooks._core.points import HOOK_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from serve_llm_hooks import Hook, HookRegistry

GlobalName = tuple[str, str]
"""A module's name and a name in it. ``("os", "environ")`` stands for the environment variables."""

_ENVIRON: GlobalName = ("os", "environ")
_IMMUTABLE = (str, bytes, int, float, complex, bool, type(None), range)
_MISSING = object()


def globals_of(hook: Hook) -> set[GlobalName]:
    """Return the module globals that a hook uses, directly or in functions of its own module or class."""
    fn, cls = function_and_class(hook)
    fn = getattr(fn, "__wrapped__", fn)
    found: set[GlobalName] = set()
    if isinstance(fn, FunctionType):
        _collect(fn, cls, found, set())
    return found


def shared_globals(hooks: HookRegistry) -> dict[GlobalName, list[Hook]]:
    """Return the globals that hooks use both in the replica and on nodes, with these hooks."""
    users: dict[GlobalName, list[Hook]] = {}
    for hook in hooks:
        for name in globals_of(hook):
            users.setdefault(name, []).append(hook)
    return {name: hooks for name, hooks in users.items() if len({_is_on_node(hook) for hook in hooks}) == 2}


def shared_problem(name: GlobalName, users: Sequence[Hook]) -> str:
    def refs(on_node: bool) -> str:
        chosen = sorted({(HOOK_NAMES.index(hook.point), hook.ref) for hook in users if _is_on_node(hook) is on_node})
        return ", ".join(ref for _, ref in chosen)

    return (
        f"{'.'.join(name)} changes during a start, and is used in the replica ({refs(False)}) and on nodes "
        f"({refs(True)}): these are different processes, and each has its own. Pass it on in ctx.custom_data; what a "
        "node adds there, the replica finds in ctx.nodes[node_id].custom_data"
    )


def _is_on_node(hook: Hook) -> bool:
    return HOOK_POINTS[hook.point].on_node


def fingerprints(names: Iterable[GlobalName]) -> dict[GlobalName, object]:
    """Return the current values of globals, in a form that can be compared later."""
    return {name: _fingerprint(_value(name)) for name in names}


def function_and_class(hook: Hook) -> tuple[Callable[..., Any] | None, type | None]:
    if hook.instance is None:
        return hook.fn, None
    owner = hook.instance.owner
    if isinstance(owner, FunctionType):
        return owner, None
    cls = owner if isinstance(owner, type) else type(owner)
    return getattr(cls, hook.method or "__call__", None), cls  # the latter: an object that is a phase function


def _collect(fn: FunctionType, cls: type | None, found: set[GlobalName], seen: set[int]) -> None:
    if id(fn) in seen:
        return
    seen.add(id(fn))
    module = str(fn.__globals__.get("__name__", "?"))
    for name in _names(fn.__code__):
        if name in ("environ", "getenv", "putenv"):
            found.add(_ENVIRON)
        attribute = getattr(cls, name, _MISSING)
        if isinstance(attribute, FunctionType):
            _collect(attribute, cls, found, seen)
        elif cls is not None and attribute is not _MISSING:  # what all instances share belongs to the class
            found.add((cls.__module__, cls.__qualname__))
        value = fn.__globals__.get(name, _MISSING)
        if isinstance(value, FunctionType):
            if value.__globals__ is fn.__globals__:
                _collect(value, None, found, seen)
            if set(vars(value)) - {MARK}:
                found.add((module, name))
        elif not isinstance(value, ModuleType):
            found.add((module, name))


def _names(code: CodeType) -> Iterator[str]:
    """Yield the names that a function's code uses, nested functions included."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _value(name: GlobalName) -> Any:
    if name == _ENVIRON:
        return dict(os.environ)
    return vars(sys.modules[name[0]]).get(name[1], _MISSING) if name[0] in sys.modules else _MISSING


def _fingerprint(value: Any) -> object:
    import cloudpickle

    if isinstance(value, _IMMUTABLE) or value is _MISSING:
        return value
    if isinstance(value, FunctionType):
        value = {key: held for key, held in vars(value).items() if key != MARK}
    elif isinstance(value, type):
        value = {key: held for key, held in vars(value).items() if not key.startswith("__") and not callable(held)}
    try:
        return cloudpickle.dumps(value)
    except Exception:  # a lock, a client: compared by its repr
        return repr(value)
