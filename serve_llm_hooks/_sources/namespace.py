"""Find the hooks in a module's namespace, and warn of those that its import decorated and that are not there."""

from __future__ import annotations

import functools
import logging
import sys
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakSet

from .._core.errors import HookLoadError
from .._core.hook import MARK, Hook, code_of, has_unique_path, marked_hooks, named_otherwise, wrapped_chain
from .._core.made import Made, made_in
from .import_path import attribute_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

_WARNED: WeakSet[Any] = WeakSet()


def hooks_in(module: ModuleType) -> Iterator[Hook]:
    """Yield the hooks in a module's namespace, each function once, in the order of its first name."""
    seen: set[int] = set()
    for value in list(vars(module).values()):
        if id(value) not in seen:
            seen.add(id(value))
            yield from hooks_of_object(value)


def hooks_of_object(value: object) -> tuple[Hook, ...]:
    """Return the hooks of a function, or of the wrapper that has taken its place in its module; none if it is none."""
    inside = _hook_inside(value) if type(value) is FunctionType and MARK not in value.__dict__ else None
    if inside is not None and _stands_for(inside) is value:
        functools.update_wrapper(cast("FunctionType", value), inside)
        logger.warning(
            "hook %s is wrapped by a decorator that does not use functools.wraps. The wrapper is what runs; write "
            "@functools.wraps(fn) in the decorator, or put @hook above it",
            " and ".join(f"{hook.path} at {hook.point}" for hook in marked_hooks(value)),
        )
    return marked_hooks(value)


def _hook_inside(fn: FunctionType) -> FunctionType | None:
    """Return the hook that a function has captured, directly or in another function that is none."""
    functions = [fn]
    for each in functions:
        for cell in each.__closure__ or ():
            try:
                inside = cell.cell_contents
            except ValueError:  # a name that has no value yet
                continue
            if type(inside) is FunctionType and inside not in functions:
                if MARK in inside.__dict__:
                    return inside
                functions.append(inside)
    return None


def _stands_for(fn: FunctionType) -> object:
    """Return what has the name of a module's function today; the function where that cannot be told."""
    found: Any = sys.modules.get(fn.__module__)
    for part in fn.__qualname__.split("."):
        found = vars(found).get(part) if isinstance(found, ModuleType | type) else None
        if isinstance(found, staticmethod):
            found = found.__func__
    return fn if found is None else found


def _hooks_today(hook: Hook, today: Any) -> list[Hook]:
    """Return what a hook is, now that its name means something else: that, or itself where both are to run."""
    fn, chain = hook.fn, wrapped_chain(today)
    wraps = any(each is fn for each in chain) or (type(today) is FunctionType and _hook_inside(today) is fn)
    if not wraps:
        if code_of(today) is code_of(fn):  # a loop has made both
            return [hook] if len(chain) <= len(wrapped_chain(fn)) else []
        if id(fn) in named_otherwise(fn):
            return [hook]
    return [each for each in hooks_of_object(today) if each.point == hook.point]


def standing(registered: Iterable[Hook]) -> list[Hook]:
    """Return registered hooks as they stand in their modules, as ``hooks=[function]`` would name them.

    That is the wrapper of a function with ``@hook`` below another decorator. A function whose name means something
    else today, since it was defined again without ``@hook``, is no hook any more.
    """
    found: list[Hook] = []
    for hook in registered:
        fn = hook.fn
        today = _stands_for(fn) if isinstance(fn, FunctionType) and has_unique_path(fn, hook.path) else fn
        same = [hook] if today is fn else _hooks_today(hook, today)
        found += same
        if not same and fn not in _WARNED:
            _WARNED.add(fn)
            logger.warning(
                "hook %s at %s does not run any more: %s now means something else, which is no hook there. Decorate "
                "that, or give one of them another name",
                hook.path,
                hook.point,
                hook.name,
            )
    return found


def warn_of_absent(modules: Iterable[ModuleType], selected: Iterable[Hook]) -> None:
    """Warn of hooks that named modules have decorated, and that are in no namespace that a config names. Each once."""
    hooks = list(selected)
    for module in modules:
        made = made_in(module.__name__)
        for each in absent(module, hooks):
            logger.warning(
                "hook %s at %s (%s) does not run: %s, which hooks=[...] names, decorates it, and %s",
                each.hook.path,
                each.hook.point,
                each.where,
                module.__name__,
                advice(module, each.hook),
            )
            made.remove(each)


def absent(module: ModuleType, selected: Iterable[Hook]) -> list[Made]:
    """Return the hooks that a module's import has decorated, and that are not among those selected."""
    made = made_in(module.__name__)
    if not made:
        return []
    taken = {(key, hook.point) for hook in selected for key in (_key(hook), *map(id, wrapped_chain(hook.fn)))}
    return [each for each in made if (_key(each.hook), each.hook.point) not in taken]


def _key(hook: Hook) -> object:
    """Return what tells a hook's function from one that was defined again under its path."""
    return hook.identity if isinstance(hook.fn, MethodType) else id(hook.fn)


def advice(module: ModuleType, hook: Hook) -> str:
    """Return why a hook is not in its module's namespace, and what to write, in words."""
    name = hook.path.partition(":")[2]
    try:
        today = attribute_of(module, name, hook.path) if isinstance(hook.fn, FunctionType) else None
    except (AttributeError, HookLoadError):
        today = None
    if today is None:
        return "no name in it holds it: assign it to one, or give the function itself in hooks=[...]"
    if any(each is hook.fn for each in wrapped_chain(today)):
        return f"it stands in a class: add '{module.__name__}:{name}' to hooks=[...]"
    if marked_hooks(today):
        return "a later definition has taken its name: give each a name of its own"
    return f"{name} now means something else: put @hook above its other decorators, or @functools.wraps(fn) into them"
