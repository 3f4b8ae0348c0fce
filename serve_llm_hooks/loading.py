"""From what stands in a config to hooks: import by path, and select what a run takes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from . import policy
from .callbacks import (
    RayServeLLMCallback,
    class_hooks,
    initialization_hooks,
    is_class_style,
    own_instances,
    phase_hooks,
)
from .errors import HookLoadError, let_through
from .points import did_you_mean
from .registry import Hook, HookRegistry, has_own_path, marked_hooks, registry

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "HookRef",
    "callback_field_hooks",
    "check_together",
    "config_hooks",
    "load_callback",
    "load_hooks",
    "select_hooks",
    "warn_of_old_ways",
]

HookRef = str | Mapping[str, Any] | Callable[..., Any] | ModuleType | HookRegistry | RayServeLLMCallback
"""What an entry of ``hooks=[...]`` may be."""

_SHIP_IT = (
    "Is it installed on every node, or shipped with the deployment? runtime_env={'working_dir': ...} or "
    "{'py_modules': [...]} ships it."
)


def load_hooks(*refs: HookRef) -> HookRegistry:
    """A registry that holds exactly the hooks that ``refs`` lead to, in that order.

    Args:
        refs: each one of

            - ``"pkg.mod"``, a module: every hook that stands in its namespace, imported ones included
            - ``"pkg.mod:function"``, one of its hooks
            - ``"hooks/file.py"``, the same for a file, with or without ``:function``
            - a decorated function, a module, a :class:`HookRegistry`
            - a class whose methods are named after hook points, its path, or an instance of one
            - ``{"hook": <any of these>, "kwargs": {...}}``, with the hooks' parameters, or the class's

    Raises:
        HookLoadError: nothing is there, it cannot be imported, or it is no hook; the message says which, and what
            to do. Kinds of it: ``HookSignatureError``, parameters that do not fit; ``HookNotAllowedError``, what
            ``SERVE_LLM_HOOKS_ALLOW`` does not list, before it is imported.

    Example:
        >>> load_hooks("no_such_module")
        Traceback (most recent call last):
        serve_llm_hooks.errors.HookLoadError: hooks module 'no_such_module' ...
    """
    found = find_hooks(*refs)
    _be_told_apart(found)
    # Parameters given for one function replace its entry without any, that came with its module.
    given = {(hook.path, hook.point) for hook in found if hook.kwargs}
    chosen = HookRegistry(hook for hook in found if hook.kwargs or (hook.path, hook.point) not in given)
    policy.check_hooks(chosen)
    for hook in chosen:
        hook.check_kwargs()
    # A circle or an ambiguous name is told here, not when it is too late. For each model on its own: two models'
    # hooks never meet. (A glob stands for a model that it matches.)
    for model_id in {"", *(model_id for hook in chosen for model_id in hook.options.model_ids)}:
        chosen.hooks(model_id=model_id)
    return chosen


def find_hooks(*refs: HookRef) -> list[Hook]:
    """What they lead to, one by one: whether their parameters are given and their order is possible shows only when all
    of them are there.

    Raises:
        HookLoadError: as :func:`load_hooks`.
    """
    return [hook for ref in refs for hook in _load(ref)]


def select_hooks(llm_config: Any) -> HookRegistry:
    """The hooks that a run with this config takes: "Which hooks run" in ``docs/hooks.md``.

    Raises:
        HookLoadError: as :func:`load_hooks`.
    """
    return config_hooks(llm_config).for_model(str(llm_config.model_id))


def config_hooks(llm_config: Any) -> HookRegistry:
    """The same with the hooks for other models that the config names: they travel with it too.

    A config with a ``hooks`` field decides: those it names; those of the running script when it says nothing. A
    config without one (Ray's own) takes all that are registered for its model in this process.

    Raises:
        HookLoadError: as :func:`load_hooks`.
        HookOrderError: as :func:`check_together`.
    """
    model_id = str(llm_config.model_id)
    if not hasattr(llm_config, "hooks"):
        registered = registry.for_model(model_id)
        policy.check_hooks(registered)
        check_together(registered, model_id)
        return registered
    if llm_config.hooks is None:
        # A config that has left its process carries what the script there had decorated for the model.
        travelled = getattr(llm_config, "_script_hooks", None)
        named = HookRegistry(script_hooks() if travelled is None else travelled).for_model(model_id)
    else:
        named = load_hooks(*llm_config.hooks)
    # The other ways come first, in the order of the fields.
    others = llm_config.callback_hooks() if hasattr(llm_config, "callback_hooks") else ()
    found = HookRegistry(own_instances([*others, *named]))
    policy.check_hooks(found)  # those that arrived in the config as objects, with its pickle
    check_together(found, model_id)
    return found


def check_together(hooks: Iterable[Hook], model_id: str) -> None:
    """See that the hooks of all of a config's fields can run together: a model's order is that of them all. Each for
    itself, too: what a script decorated has come through no :func:`load_hooks`.

    Raises:
        HookSignatureError: parameters are missing.
        HookOrderError: an order that is impossible, or ambiguous.
    """
    together = HookRegistry(hooks).for_model(model_id)
    for hook in together:
        hook.check_kwargs()
    together.hooks()


def callback_field_hooks(config: Any) -> list[Hook]:
    """The hooks of a config's fields ``initialization_class``, ``callback`` and ``callbacks``.

    Raises:
        ValueError, ImportError, AttributeError, TypeError: as :func:`load_callback`.
        HookLoadError: what is there cannot be used as the field says. ``HookNotAllowedError``, a kind of it.
    """
    hooks: list[Hook] = []
    for field, arguments in (("initialization_class", "initialization_kwargs"), ("callback", "callback_kwargs")):
        given, kwargs = getattr(config, field), getattr(config, arguments)
        if given is None:
            if kwargs:
                raise HookLoadError(f"{arguments}={kwargs!r} without {field}=...: there is nothing to make with them")
            continue
        loaded = load_callback(given) if isinstance(given, str) else given
        hooks += (
            initialization_hooks(loaded, kwargs) if field == "initialization_class" else class_hooks(loaded, kwargs)
        )
    hooks += phase_hooks(config.callbacks)
    policy.check_hooks(hooks)
    return hooks


def warn_of_old_ways(config: Any, *, stacklevel: int) -> None:
    """Say what replaces a field that is kept for old code only."""
    if config.initialization_class is not None:
        import warnings

        warnings.warn(
            "initialization_class=... is kept for old code: write a class with `async def on_custom_init(self, ctx)`, "
            "and `on_before_init` returning False, and give it as callback=... (docs/migrating.md)",
            DeprecationWarning,
            stacklevel=stacklevel + 1,
        )


def load_callback(spec: Any) -> Any:
    """A callable by its path; one that is given as it is comes back.

    Args:
        spec: ``"pkg.mod:name"``, ``"pkg.mod.name"``, or a callable.

    Raises:
        ValueError: a string without a dot or a colon.
        ImportError: the module cannot be imported; the message names it, and says what to do.
        AttributeError: the module has no such name; the message lists the callables that it has.
        TypeError: what is there is not callable.
        HookNotAllowedError: its module is not in ``SERVE_LLM_HOOKS_ALLOW``; nothing was imported.

    Example:
        >>> load_callback("os.path:basename")("/models/llama")
        'llama'
    """
    if not isinstance(spec, str):
        if callable(spec):
            policy.check_object(spec)
            return spec
        raise TypeError(f"a callback is a callable or its path ('pkg.mod:name'), not {spec!r}")
    path, colon, name = spec.rpartition(":") if ":" in spec else spec.rpartition(".")
    if not colon or not path or not name:
        raise ValueError(f"{spec!r} is no path of a callback: write 'pkg.mod:name' or 'pkg.mod.name'")
    policy.check(path, f"callback {spec!r}")
    try:
        module = importlib.import_module(path)
    except BaseException as error:
        let_through(error)
        why, help_ = _why(error), "It fails while it is imported."
        if isinstance(error, ModuleNotFoundError):
            why, help_ = str(error), _SHIP_IT
        raise ImportError(f"callback {spec!r}: module {path!r} cannot be imported ({why}). {help_}") from error
    target: Any = module
    try:
        for part in name.split("."):
            target = getattr(target, part)
    except AttributeError:
        if _is_module(spec.replace(":", ".")):
            target = ModuleType(spec)  # a submodule that nobody has imported yet
        else:
            names = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
            raise AttributeError(
                f"callback {spec!r}: {path} has no {name!r}{did_you_mean(name, names)}. "
                f"Its callables: {', '.join(names) or 'none'}."
            ) from None
    if isinstance(target, ModuleType):
        raise TypeError(f"callback {spec!r} names a module: write '{spec.replace(':', '.')}:name', with the name in it")
    if not callable(target):
        raise TypeError(f"callback {spec!r} is not callable: {target!r}")
    policy.check_object(target)  # it may come from elsewhere than the module that it was found in
    return target


def _is_module(path: str) -> bool:
    try:
        # Finding imports the packages above it.
        return policy.allows(path) and importlib.util.find_spec(path) is not None
    except ImportError:
        return False


def _be_told_apart(hooks: Iterable[Hook]) -> None:
    """See that there are no two wrappers of one function, which have one name: a registry would take the second for
    the first, defined again. (One that is defined again has made a function of its own to wrap.)

    Raises:
        HookLoadError: there are.
    """
    by_path: dict[str, list[Any]] = {}
    for hook in hooks:
        if not has_own_path(hook):
            continue  # each is itself, whatever its name
        others = by_path.setdefault(hook.path, [])
        for other in others:
            ours, theirs = _chain(hook.fn), _chain(other)
            wraps = id(hook.fn) in theirs or id(other) in ours  # a hook and its own wrapper are one
            if ours & theirs and not wraps:
                raise HookLoadError(
                    f"two hooks are called {hook.path}, and only one of them would run: {other!r} and {hook.fn!r}. A "
                    "wrapper made with functools.wraps is called like what it wraps; give each a __name__ and a "
                    "__qualname__ of its own"
                )
        others.append(hook.fn)


def _chain(fn: Any) -> set[int]:
    """A function, what it wraps, and what that one wraps; by identity."""
    chain = {id(fn)}
    while (fn := getattr(fn, "__wrapped__", None)) is not None:
        chain.add(id(fn))
    return chain


def script_hooks(module: str = "__main__") -> list[Hook]:
    """What the running script itself decorated.

    Raises:
        HookLoadError: two of its functions are wrappers of one.
    """
    there = list(vars(sys.modules[module]).values()) if module in sys.modules else ()
    functions = [value for value in there if type(value) is FunctionType]  # other things may mind being looked at
    own = f"{module}:"
    _be_told_apart(hook for value in functions for hook in marked_hooks(value) if hook.path.startswith(own))
    return [hook for hook in registry if hook.path.startswith(own)]


def _load(ref: object, *, where: str = "hooks") -> Iterable[Hook]:
    if isinstance(ref, Mapping):
        return _load_with_kwargs(ref)
    if isinstance(ref, str):
        return _load_path(ref)
    if isinstance(ref, ModuleType):
        return _hooks_of_module(ref, ref.__name__)
    if isinstance(ref, HookRegistry):
        return tuple(ref)
    hooks = marked_hooks(ref)
    if hooks:
        return hooks
    if is_class_style(ref):
        return class_hooks(ref)
    if callable(ref) and not isinstance(ref, type):
        name = getattr(ref, "__qualname__", repr(ref))
        raise HookLoadError(
            f'{name} in {where}=[...] is no hook: decorate it with @hook("on_...") to say where it runs'
        )
    raise HookLoadError(
        f"{where}=[...] takes 'pkg.mod', 'pkg.mod:function', a .py file, a decorated function, a class with methods "
        "named after hook points, or "
        f"{{'hook': ..., 'kwargs': {{...}}}}, not {ref!r}"
    )


def _load_with_kwargs(entry: Mapping[str, Any]) -> Iterable[Hook]:
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
    if isinstance(target, str) and _split(target)[1]:
        target = _find(target)
    if isinstance(target, type):
        return class_hooks(target, kwargs, option="kwargs")
    return [hook.bind(kwargs) for hook in _load(target)]


def _load_path(ref: str) -> Iterable[Hook]:
    path, name = _split(ref)
    if name:
        target = _find(ref)
        hooks = marked_hooks(target)
        if not hooks and is_class_style(target):
            return class_hooks(target)
        if not hooks:
            raise HookLoadError(f'hook {ref!r} is not decorated: put @hook("on_...") on it to say where it runs')
        return hooks
    module = _module(path, ref)
    hooks = tuple(_hooks_of_module(module, ref))
    if not hooks:
        raise HookLoadError(
            f"hooks module {ref!r} ({getattr(module, '__file__', '?')}) has no hooks: nothing in its namespace "
            'is decorated with @hook("on_...")'
        )
    return hooks


def _find(ref: str) -> Any:
    """What ``path:name`` is the path of."""
    path, name = _split(ref)
    module = _module(path, ref)
    try:
        target: Any = module
        for part in name.split("."):
            target = getattr(target, part)
    except AttributeError:
        names = [hook.path.partition(":")[2] for hook in _hooks_of_module(module, ref)]
        raise HookLoadError(
            f"hook {ref!r}: {path} has no {name!r}{did_you_mean(name, names)}. Its hooks: {', '.join(names) or 'none'}."
        ) from None
    return target


def _module(path: str, ref: str) -> ModuleType:
    return _load_file(Path(path), ref) if _is_file(path) else _import(path, ref)


def _split(ref: str) -> tuple[str, str]:
    """``path:name`` into its halves; a Windows drive is no path."""
    path, colon, name = ref.rpartition(":")
    if not colon or "/" in name or "\\" in name:
        return ref, ""
    return path, name


def _is_file(path: str) -> bool:
    return path.endswith(".py") or "/" in path


def _import(path: str, ref: str) -> ModuleType:
    if not path or not all(part.isidentifier() for part in path.split(".")):
        raise HookLoadError(
            f"{ref!r} in hooks=[...] is no module path: write 'pkg.mod', 'pkg.mod:function' or 'path/to/file.py'"
        )
    policy.check(path, f"{ref!r} in hooks=[...]")
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        missing = error.name or path
        if path == missing or path.startswith(f"{missing}."):
            raise HookLoadError(f"hooks module {path!r} cannot be found (no module {missing!r}). {_SHIP_IT}") from error
        raise _failed_import(path, error) from error
    except BaseException as error:
        let_through(error)
        raise _failed_import(path, error) from error


def _failed_import(path: str, error: BaseException) -> HookLoadError:
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    at = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame is not None else ""
    return HookLoadError(f"hooks module {path!r} fails while it is imported: {_why(error)}{at}")


def _why(error: BaseException) -> str:
    if isinstance(error, SystemExit):  # let through, it would end Serve's event loop, and the replica would hang
        return f"it called sys.exit({error.code!r})"
    return f"{type(error).__name__}: {error}"


def _load_file(path: Path, ref: str) -> ModuleType:
    """A module from a file. Its functions travel by value, since no other process can import it by name."""
    import cloudpickle

    file = path.expanduser().resolve()
    policy.check(file.as_posix(), f"{ref!r} in hooks=[...]")
    if not file.is_file():
        raise HookLoadError(f"hooks file {ref!r} is not there (looked at {file})") from FileNotFoundError(str(file))
    name = policy.file_module(file)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise HookLoadError(f"hooks file {ref!r} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        let_through(error)
        raise _failed_import(ref, error) from error
    cloudpickle.register_pickle_by_value(module)
    return module


def _hooks_of_module(module: ModuleType, ref: str) -> Iterable[Hook]:
    """What stands in a module's namespace, each function once, in the order of its first name."""
    seen: set[int] = set()
    for value in list(vars(module).values()):
        if id(value) not in seen:
            seen.add(id(value))
            yield from marked_hooks(value)
