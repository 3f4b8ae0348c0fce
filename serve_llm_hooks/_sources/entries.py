"""``load_hooks``: from the entries of ``hooks=[...]`` to hooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from .._core.errors import HookLoadError, HookNotAllowedError
from .._core.hook import Hook, code_of, has_unique_path, marked_hooks, wrapped_chain
from .._core.messages import describe, did_you_mean, kind_of, masked
from .._core.order import check_order
from .._core.points import HOOK_NAMES
from .._core.registry import HookRegistry
from .allow import check_hooks
from .class_style import RayServeLLMCallback, checked_kwargs, hooks_of_class, is_class_style
from .import_path import (
    attribute_of,
    check_is_no_secret,
    check_is_there,
    files_in,
    import_path,
    is_file,
    is_module,
    split_path,
)
from .namespace import absent, advice, hooks_in, hooks_of_object, warn_of_absent

HookRef = str | Mapping[str, Any] | Callable[..., Any] | ModuleType | HookRegistry | RayServeLLMCallback
"""An entry of ``hooks=[...]``."""


def load_hooks(*refs: HookRef) -> HookRegistry:
    """Return a registry of the hooks that ``refs`` name, in that order.

    Args:
        refs: each one of

            - ``"pkg.mod"``, a module: every hook in its namespace, imported ones included
            - ``"pkg.mod:function"``, one of its hooks
            - ``"hooks/file.py"``, likewise for a file, with or without ``:function``
            - ``"hooks/folder"``: every ``.py`` file in it
            - a decorated function, a module, a :class:`HookRegistry`
            - a class whose methods are named after hook points, its path, or an instance of one
            - ``{"hook": <any of these>, "kwargs": {...}}``, with the hooks' parameters, or the class's

    Raises:
        HookLoadError: nothing is there, it cannot be imported, or it is no hook; the message says which, and what
            to do. Subclasses: ``HookSignatureError``, parameters that do not fit; ``HookNotAllowedError``, a source
            that ``SERVE_LLM_HOOKS_ALLOW`` does not list, before it is imported.

    A hook that a named module decorates, and that no entry takes, is told in a warning.

    Example:
        >>> load_hooks("no_such_module")
        Traceback (most recent call last):
        serve_llm_hooks.HookImportError: hooks module 'no_such_module' ...
    """
    if len(refs) > 1 and all(type(ref) is str and len(str(ref)) == 1 for ref in refs):
        raise HookLoadError(
            f"load_hooks(*{''.join(map(str, refs))!r}) takes a string apart into its letters: leave out the *"
        )
    found = _without_older(hooks_of_entries(refs))
    _check_wrappers(found)
    # Parameters given for one function replace the entry without any that came with its module.
    given = {(hook.identity, hook.point) for hook in found if hook.kwargs}
    chosen = HookRegistry(hook for hook in found if hook.kwargs or (hook.identity, hook.point) not in given)
    check_hooks(chosen)
    for hook in chosen:
        hook.check_kwargs()
    check_order(chosen)  # a circle or an ambiguous name fails here, not when it is too late
    warn_of_absent([each for ref in refs for each in targets_of(ref) if isinstance(each, ModuleType)], found)
    return chosen


def hooks_of_entries(refs: Iterable[object]) -> list[Hook]:
    """Return the hooks of the entries one by one, before parameters and order are checked across them.

    Raises:
        HookLoadError: as :func:`load_hooks`.
    """
    return [hook for ref in refs for hook in _hooks_of(ref)]


def targets_of(ref: object) -> list[Any]:
    """Return what an entry names: a module (of a folder, one for each file), a function, a class, a registry.

    Raises:
        HookLoadError: as :func:`load_hooks`.
    """
    check_is_there(ref, "an entry of hooks=[...]")
    if isinstance(ref, str):  # before Mapping, which asks each of the hundreds of mapping classes that vLLM imports
        return _targets_at(ref)
    named = _checked_mapping(ref)["hook"] if isinstance(ref, Mapping) else ref
    return _targets_at(named) if isinstance(named, str) else [named]


def _hooks_of(ref: object) -> list[Hook]:
    targets = targets_of(ref)
    named, kwargs = ref, None
    if not isinstance(ref, str) and isinstance(ref, Mapping):
        named, kwargs = ref["hook"], ref.get("kwargs") or {}
    found = [hook for target in targets for hook in _hooks_of_target(target, named, kwargs)]
    if not found and isinstance(named, str):
        raise _no_hooks(named, targets)
    return found


def _checked_mapping(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    unknown = [key for key in entry if key not in ("hook", "kwargs")]
    if "hook" not in entry or unknown:
        hint = did_you_mean(unknown[0], ("hook", "kwargs")) if unknown and isinstance(unknown[0], str) else ""
        raise HookLoadError(
            f"an entry of hooks=[...] that is a mapping has the keys 'hook' and 'kwargs'{hint}, not {masked(entry)}"
        )
    checked_kwargs(entry.get("kwargs") or {}, f"'kwargs' of hook {describe(entry['hook'])}")
    check_is_there(entry["hook"], "'hook' of an entry of hooks=[...]")
    if isinstance(entry["hook"], Mapping):
        raise HookLoadError("'hook' of an entry of hooks=[...] is a hook, its module or its path, not another mapping")
    return entry


def _hooks_of_target(target: Any, named: object, kwargs: Mapping[str, Any] | None) -> Iterable[Hook]:
    """Return the hooks of what an entry names, with the entry's parameters."""
    if isinstance(target, type) and kwargs is not None:
        return hooks_of_class(target, kwargs, option="kwargs")
    hooks: Iterable[Hook]
    if isinstance(target, ModuleType):
        hooks = hooks_in(target)
    elif isinstance(target, HookRegistry):
        hooks = tuple(target)
    else:
        hooks = hooks_of_object(target) or (hooks_of_class(target, option="kwargs") if is_class_style(target) else ())
        if not hooks:
            raise _no_hook(target, named)
    return hooks if kwargs is None else [hook.bind(kwargs) for hook in hooks]


def _no_hook(target: Any, named: object) -> HookLoadError:
    if isinstance(named, str):
        return HookLoadError(f'hook {named!r} is not decorated: put @hook("on_...") on it to say where it runs')
    if callable(target) and not isinstance(target, type):
        return HookLoadError(
            f'{describe(target)} in hooks=[...] is no hook: decorate it with @hook("on_...") to say where it runs'
        )
    if isinstance(target, Hook):
        return HookLoadError(
            f"{target.ref} at {target.point} in hooks=[...] is a hook out of a registry: give the registry whole, as "
            "in load_hooks(registry) or hooks=[registry], without a *, or the decorated function"
        )
    if isinstance(target, Iterable):
        return HookLoadError(
            f"an entry of hooks=[...], and of load_hooks(...), is one hook, module or class, not {kind_of(target)}: "
            "unpack the list, as in load_hooks(*hooks) or hooks=[*hooks]"
        )
    return HookLoadError(
        "hooks=[...] takes 'pkg.mod', 'pkg.mod:function', a .py file, a decorated function, a class with methods "
        f"named after hook points, or {{'hook': ..., 'kwargs': {{...}}}}, not {describe(target)}"
    )


def _no_hooks(ref: str, modules: list[ModuleType]) -> HookLoadError:
    files = ", ".join(file for module in modules if (file := getattr(module, "__file__", None)))
    if not files and hasattr(modules[0], "__path__"):
        files = "a folder without an __init__.py: name a module in it"
    text = f"hooks {_kind(ref)} {ref!r}{f' ({files})' if files else ''} has no hooks: "
    text += 'nothing in its namespace is decorated with @hook("on_...")'
    for module in modules:
        if classes := _classes_in(module):
            example = f"{ref if len(modules) == 1 else module.__file__}:{classes[0]}"
            text += f"; name a class in it, as in '{example}': {', '.join(classes)}"
        for each in absent(module, ()):
            hook = each.hook
            text += f"; {hook.path} at {hook.point} ({each.where}) does not count: {advice(module, hook)}"
    return HookLoadError(text)


def _classes_in(module: ModuleType) -> list[str]:
    """Return the names of a module's public classes of hooks, those that it imports on first use included."""
    found = []
    for name in dir(module):
        try:
            value = None if name.startswith("_") else getattr(module, name)
            is_class = isinstance(value, type) and value is not RayServeLLMCallback
            is_one = is_class and any(callable(getattr(value, point, None)) for point in HOOK_NAMES)
        except Exception:  # a lazy import that fails, or a proxy with nothing behind it: no name to advise
            continue
        if is_one:
            found.append(name)
    return found


def _targets_at(ref: str) -> list[Any]:
    check_is_no_secret(ref, "an entry of hooks=[...]")
    path, name = split_path(ref)
    if name:
        return [_object_at(ref)]
    files = files_in(path, f"{ref!r} in hooks=[...]")
    if files is not None:
        return [_module_at(file, ref) for file in files]
    try:
        return [_module_at(path, ref)]
    except HookLoadError as error:
        if isinstance(error, HookNotAllowedError) or isinstance(error.__cause__, ModuleNotFoundError):
            return [_object_at_dotted(path, error)]
        raise


def _object_at(ref: str) -> Any:
    """Return the object at ``path:name``."""
    path, name = split_path(ref)
    module = _module_at(path, ref)
    try:
        return attribute_of(module, name, f"hook {ref!r}")
    except AttributeError:
        names = [hook.path.partition(":")[2] for hook in hooks_in(module)] + _classes_in(module)
        public = [each for each in dir(module) if not each.startswith("_")]
        hint = did_you_mean(name, names) or did_you_mean(name, public)
        raise HookLoadError(
            f"hook {ref!r}: {path} has no {name!r}{hint}. Its hooks: {', '.join(names) or 'none'}."
        ) from None


def _object_at_dotted(ref: str, error: HookLoadError) -> Any:
    """Return the object at ``pkg.mod.name``, written with a dot where a colon is meant.

    Raises:
        HookLoadError: the module has no such name; ``error`` where none of it is a module, or all of it a package.
    """
    path, name = "" if is_file(ref) else ref, ""
    while "." in path:
        path, _, last = path.rpartition(".")
        name = f"{last}.{name}" if name else last
        if not is_module(path):
            continue
        module = _module_at(path, ref)
        if hasattr(module, "__path__") and not hasattr(module, name.partition(".")[0]):
            missing = getattr(error.__cause__, "name", None) or ref
            if not f"{ref}.".startswith(f"{missing}."):
                break  # the module is there, and what it imports is not
            inside = [hook.name for hook in hooks_in(module)] + [each.name for each in iter_modules(module.__path__)]
            raise type(error)(f"{error}{did_you_mean(name, inside)}") from error.__cause__
        found = _object_at(f"{path}:{name}")
        if isinstance(found, ModuleType):
            break
        return found
    raise error


def _module_at(path: str, ref: str) -> ModuleType:
    return import_path(path, f"{ref!r} in hooks=[...]", f"hooks {_kind(path)} {path!r}")


def _kind(path: str) -> str:
    return "file" if is_file(path) else "module"


def _without_older(hooks: Iterable[Hook]) -> list[Hook]:
    """Return hooks without those whose very definition has run again: a module reloaded, or a copy sent by value."""
    keyed: list[tuple[object, Hook]] = []
    for hook in hooks:
        code = code_of(hook.fn)
        file = getattr(code, "co_filename", "")
        unique = has_unique_path(hook.fn, hook.path)
        keyed.append(((hook.path, hook.options, code, file) if unique else None, hook))
    newest = {key: code_of(hook.fn) for key, hook in keyed if key is not None}
    return [hook for key, hook in keyed if key is None or code_of(hook.fn) is newest[key]]


def _check_wrappers(hooks: Iterable[Hook]) -> None:
    """Check that no hook would run twice, in two wrappers: functools.wraps copies @hook's marks to each of them.

    Raises:
        HookLoadError: there are two.
    """
    wrappers: dict[tuple[str, int], Any] = {}
    inside: set[tuple[str, int]] = set()
    hooks = list(hooks)
    for hook in hooks:
        inside.update((hook.point, id(fn)) for fn in wrapped_chain(hook.fn)[1:])
    for hook in hooks:
        if (hook.point, id(hook.fn)) in inside:
            continue
        for fn in wrapped_chain(hook.fn)[1:]:
            is_hook_here = any(each.point == hook.point for each in marked_hooks(fn))
            if is_hook_here and wrappers.setdefault((hook.point, id(fn)), hook.fn) is not hook.fn:
                raise HookLoadError(
                    f"two wrappers of the hook {hook.path} would both run it at {hook.point}, since functools.wraps "
                    "makes each a hook: put @hook above the decorators, and not on the function that they share"
                )
