"""``load_hooks``: from the entries of ``hooks=[...]`` to hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from .._core.errors import HookLoadError
from .._core.hook import Hook, has_unique_path, marked_hooks
from .._core.order import check_order
from .._core.registry import HookRegistry
from .._core.text import did_you_mean
from .allow import check_hooks
from .class_style import RayServeLLMCallback, hooks_of_class, is_class_style
from .paths import attribute_of, import_path, is_file, split_path

HookRef = str | Mapping[str, Any] | Callable[..., Any] | ModuleType | HookRegistry | RayServeLLMCallback
"""An entry of ``hooks=[...]``."""


def load_hooks(*refs: HookRef) -> HookRegistry:
    """Return a registry of the hooks that ``refs`` name, in that order.

    Args:
        refs: each one of

            - ``"pkg.mod"``, a module: every hook in its namespace, imported ones included
            - ``"pkg.mod:function"``, one of its hooks
            - ``"hooks/file.py"``, likewise for a file, with or without ``:function``
            - a decorated function, a module, a :class:`HookRegistry`
            - a class whose methods are named after hook points, its path, or an instance of one
            - ``{"hook": <any of these>, "kwargs": {...}}``, with the hooks' parameters, or the class's

    Raises:
        HookLoadError: nothing is there, it cannot be imported, or it is no hook; the message says which, and what
            to do. Subclasses: ``HookSignatureError``, parameters that do not fit; ``HookNotAllowedError``, a source
            that ``SERVE_LLM_HOOKS_ALLOW`` does not list, before it is imported.

    Example:
        >>> load_hooks("no_such_module")
        Traceback (most recent call last):
        serve_llm_hooks.HookImportError: hooks module 'no_such_module' ...
    """
    found = hooks_of_entries(refs)
    check_names_differ(found)
    # Parameters given for one function replace the entry without any that came with its module.
    given = {(hook.identity, hook.point) for hook in found if hook.kwargs}
    chosen = HookRegistry(hook for hook in found if hook.kwargs or (hook.identity, hook.point) not in given)
    check_hooks(chosen)
    for hook in chosen:
        hook.check_kwargs()
    check_order(chosen)  # a circle or an ambiguous name fails here, not when it is too late
    return chosen


def hooks_of_entries(refs: Iterable[object]) -> list[Hook]:
    """Return the hooks of the entries one by one, before parameters and order are checked across them.

    Raises:
        HookLoadError: as :func:`load_hooks`.
    """
    return [hook for ref in refs for hook in _hooks_of(ref)]


def _hooks_of(ref: object) -> Iterable[Hook]:
    if isinstance(ref, Mapping):
        return _hooks_with_kwargs(ref)
    if isinstance(ref, str):
        return _hooks_at(ref)
    if isinstance(ref, ModuleType):
        return _hooks_in(ref)
    if isinstance(ref, HookRegistry):
        return tuple(ref)
    hooks = marked_hooks(ref)
    if hooks:
        return hooks
    if is_class_style(ref):
        return hooks_of_class(ref)
    if callable(ref) and not isinstance(ref, type):
        name = getattr(ref, "__qualname__", repr(ref))
        raise HookLoadError(f'{name} in hooks=[...] is no hook: decorate it with @hook("on_...") to say where it runs')
    raise HookLoadError(
        "hooks=[...] takes 'pkg.mod', 'pkg.mod:function', a .py file, a decorated function, a class with methods "
        f"named after hook points, or {{'hook': ..., 'kwargs': {{...}}}}, not {ref!r}"
    )


def _hooks_with_kwargs(entry: Mapping[str, Any]) -> Iterable[Hook]:
    unknown = [key for key in entry if key not in ("hook", "kwargs")]
    if "hook" not in entry or unknown:
        hint = did_you_mean(unknown[0], ("hook", "kwargs")) if unknown else ""
        raise HookLoadError(
            f"an entry of hooks=[...] that is a mapping has the keys 'hook' and 'kwargs'{hint}, not {dict(entry)!r}"
        )
    kwargs = entry.get("kwargs") or {}
    if not isinstance(kwargs, Mapping):
        raise HookLoadError(f"'kwargs' of hook {entry['hook']!r} is a mapping of its parameters, not {kwargs!r}")
    target = entry["hook"]
    if isinstance(target, str) and split_path(target)[1]:
        target = _object_at(target)
    if isinstance(target, type):
        return hooks_of_class(target, kwargs, option="kwargs")
    return [hook.bind(kwargs) for hook in _hooks_of(target)]


def _hooks_at(ref: str) -> Iterable[Hook]:
    path, name = split_path(ref)
    if name:
        target = _object_at(ref)
        hooks = marked_hooks(target)
        if not hooks and is_class_style(target):
            return hooks_of_class(target)
        if not hooks:
            raise HookLoadError(f'hook {ref!r} is not decorated: put @hook("on_...") on it to say where it runs')
        return hooks
    module = _module_at(path, ref)
    hooks = tuple(_hooks_in(module))
    if not hooks:
        raise HookLoadError(
            f"hooks module {ref!r} ({getattr(module, '__file__', '?')}) has no hooks: nothing in its namespace "
            'is decorated with @hook("on_...")'
        )
    return hooks


def _object_at(ref: str) -> Any:
    """Return the object at ``path:name``."""
    path, name = split_path(ref)
    module = _module_at(path, ref)
    try:
        return attribute_of(module, name)
    except AttributeError:
        names = [hook.path.partition(":")[2] for hook in _hooks_in(module)]
        raise HookLoadError(
            f"hook {ref!r}: {path} has no {name!r}{did_you_mean(name, names)}. Its hooks: {', '.join(names) or 'none'}."
        ) from None


def _module_at(path: str, ref: str) -> ModuleType:
    return import_path(path, f"{ref!r} in hooks=[...]", f"hooks {'file' if is_file(path) else 'module'} {path!r}")


def _hooks_in(module: ModuleType) -> Iterable[Hook]:
    """Yield the hooks in a module's namespace, each function once, in the order of its first name."""
    seen: set[int] = set()
    for value in list(vars(module).values()):
        if id(value) not in seen:
            seen.add(id(value))
            yield from marked_hooks(value)


def check_names_differ(hooks: Iterable[Hook]) -> None:
    """Check that no two hooks are wrappers of one function with one name: a registry would drop the first of them.

    (A function that is defined again wraps a new function of its own.)

    Raises:
        HookLoadError: there are two.
    """
    by_path: dict[str, list[Any]] = {}
    seen: set[int] = set()
    for hook in hooks:
        if not has_unique_path(hook.fn, hook.path) or id(hook.fn) in seen:
            continue  # known by identity, whatever its name
        seen.add(id(hook.fn))
        others = by_path.setdefault(hook.path, [])
        for other in others:
            ours, theirs = _wrapped_chain(hook.fn), _wrapped_chain(other)
            is_own_wrapper = id(hook.fn) in theirs or id(other) in ours
            if ours & theirs and not is_own_wrapper:
                raise HookLoadError(
                    f"two hooks are called {hook.path}, and only one of them would run: {other!r} and {hook.fn!r}. A "
                    "wrapper made with functools.wraps is called like what it wraps; give each a __name__ and a "
                    "__qualname__ of its own"
                )
        others.append(hook.fn)


def _wrapped_chain(fn: Any) -> set[int]:
    """Return the ids of a function, the one that it wraps, and so on."""
    chain = {id(fn)}
    while (fn := getattr(fn, "__wrapped__", None)) is not None:
        chain.add(id(fn))
    return chain
