"""Pickle hooks and ``custom_data`` for another process, and say which part cannot travel."""

from __future__ import annotations

import logging
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.errors import HookPickleError, reraise_if_not_a_failure
from .._core.messages import describe, exit_of, one_line, readable
from .._core.snapshot import unchanging
from .._core.values import same_value
from .._sources.allow import check_hooks
from .._sources.import_path import ALONE
from .task import PackedHook

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._core.hook import Hook


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

_PLAIN = frozenset({type(None), bool, int, float, str, bytes})
_WARNED: set[str] = set()  # a file has many hooks, and a config is pickled many times


def pack_hooks(hooks: Iterable[Hook]) -> tuple[PackedHook, ...]:
    """Pickle hooks: by reference where another process can import them, by value from ``__main__``.

    Raises:
        HookNotAllowedError: one may not run here, and so not elsewhere at this process's request.
        HookPickleError: one cannot be pickled; the message names the variable that it captured.
    """
    from .by_value import dumps

    hooks = tuple(hooks)
    check_hooks(hooks)
    packed = []
    for hook in hooks:
        try:
            data = dumps(hook)
        except BaseException as error:
            reraise_if_not_a_failure(error)
            advice = "Make what it needs inside the hook, or pass plain data in ctx.custom_data."
            if hook.instance is not None:
                advice = (
                    "Give the class and its arguments (callback=MyCallback, callback_kwargs={...}) instead of an "
                    "object, and make what cannot be pickled in a method."
                )
            raise HookPickleError(
                f"hook {hook.ref} at {hook.point} cannot be sent to another process: {_culprit(hook)}"
                f"{one_line(error)}. {advice}"
            ) from readable(error)
        _check_names(hook, data)
        for problem in sibling_problems(hook, data):
            if problem not in _WARNED:
                _WARNED.add(problem)
                logger.warning("%s", problem)
        packed.append(PackedHook(hook.ref, hook.point, hook.source, data, hook.options.roles))
    return tuple(packed)


def _check_names(hook: Hook, data: bytes) -> None:
    """Check that a pickled hook names nothing that no other process has."""
    from .by_value import names_in, travels_by_value

    names = names_in(data)
    lost = sorted(f"{module}.{name}" for module, name in names if name and travels_by_value(module))
    if lost:
        raise HookPickleError(
            f"hook {hook.ref} at {hook.point} cannot be sent to another process: it uses {', '.join(lost)}, which "
            f"pickle sends by name, and no other process has this module ({hook.source}): it is a script, a notebook "
            "or a hooks file, whose functions travel by value. Make it inside the hook, or move it into a module that "
            "is installed on every node, or shipped."
        )


def sibling_problems(hook: Hook, data: bytes) -> list[str]:
    """Return what is wrong with a hooks file that uses what lies beside it; nothing for other hooks."""
    from .by_value import names_in, siblings_in

    if "/" not in hook.source:
        return []
    return [
        f"the hooks file {hook.source} uses {sibling!r}, which lies beside it and was found by the working directory "
        f"or PYTHONPATH: {ALONE}"
        for sibling in sorted(siblings_in(names_in(data), hook.source))
    ]


def check_parameters_travel(entries: Iterable[object]) -> None:
    """Check the parameters of the entries of ``hooks=[...]`` that name their hook by its path.

    Raises:
        HookPickleError: one cannot be pickled; the message names the hook and the parameter.
    """
    from .by_value import dumps

    for entry in entries:
        if not isinstance(entry, dict):
            continue
        for name, value in (entry.get("kwargs") or {}).items():
            try:
                dumps(value)
            except BaseException as error:
                reraise_if_not_a_failure(error)
                raise HookPickleError(
                    f"parameter {name!r} ({type(value).__name__}) of hook {describe(entry.get('hook'))} cannot be sent "
                    f"to another process: {one_line(error)}. Give it plain data, and make the object inside the hook."
                ) from readable(error)


def _culprit(hook: Hook) -> str:
    """Return which captured variable, parameter, attribute or global of a hook cannot be pickled, in words."""
    import inspect

    from .by_value import dumps

    candidates: dict[str, object] = {f"its parameter {name!r}": value for name, value in hook.kwargs.items()}
    if hook.instance is not None:
        candidates.update(hook.instance.parts)
    else:
        try:
            captured = inspect.getclosurevars(hook.fn)
        except TypeError:
            attributes = vars(hook.fn).items() if hasattr(hook.fn, "__dict__") else ()
            candidates.update((f"its attribute {name!r}", value) for name, value in attributes)
        else:
            candidates.update((f"the variable {name!r} it captured", v) for name, v in captured.nonlocals.items())
            candidates.update((f"the global {name!r} it uses", value) for name, value in captured.globals.items())
    for what, value in candidates.items():
        try:
            dumps(value)
        except BaseException as error:
            reraise_if_not_a_failure(error)
            return f"{what} ({type(value).__name__}) cannot be pickled: "
    return ""


def pack_custom_data(custom_data: Mapping[str, Any], *, where: str) -> tuple[tuple[str, bytes], ...]:
    """Pickle ``custom_data``, key by key.

    Args:
        custom_data: the data.
        where: the process that it leaves, in words.

    Raises:
        HookPickleError: a value cannot be pickled; the message names its key.
    """
    packed = []
    for key, value in unchanging(lambda: list(custom_data.items())):
        try:
            packed.append((key, unchanging(partial(_dumps, value))))
        except BaseException as error:
            reraise_if_not_a_failure(error)
            raise HookPickleError(
                f"ctx.custom_data[{key!r}] ({type(value).__name__}) cannot leave {where}: {one_line(error)}. "
                "Between the replica and its nodes goes what can be pickled."
            ) from readable(error)
    return tuple(packed)


def _dumps(value: Any) -> bytes:
    if type(value) in _PLAIN:  # nearly always: most nodes then need no cloudpickle
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    from .by_value import dumps

    return dumps(value)


def unpack_custom_data(packed: Iterable[tuple[str, bytes]], *, where: str) -> dict[str, Any]:
    """Unpickle ``custom_data``.

    Args:
        packed: the data, key by key.
        where: the process that it has reached, in words.

    Raises:
        HookPickleError: a value cannot be unpickled here; the message names its key.
    """
    custom_data = {}
    for key, data in packed:
        try:
            custom_data[key] = pickle.loads(data)
        except BaseException as error:
            reraise_if_not_a_failure(error)
            raise HookPickleError(
                f"ctx.custom_data[{key!r}] cannot be unpacked {where}: {unpickle_failure(error)}. "
                "Is the same version of its module on every node?"
            ) from readable(error)
    return custom_data


def with_changes(ours: Mapping[str, Any], sent: Mapping[str, Any], back: Mapping[str, Any]) -> dict[str, Any]:
    """Return our data with what a node's hooks have changed, added or deleted of the data that they were sent.

    Args:
        ours: the data as it is here by now.
        sent: what the node was sent, unpacked here.
        back: what came back from it, unpacked here.
    """
    kept = {key: value for key, value in ours.items() if key not in sent or key in back}
    return kept | {key: value for key, value in back.items() if key not in sent or not _are_alike(value, sent[key])}


def _are_alike(one: object, other: object) -> bool:
    """Return True if two values are equal, or pickle alike: an object without ``__eq__`` is equal to itself only."""
    from .by_value import dumps

    if same_value(one, other):
        return True
    try:
        return dumps(one) == dumps(other)
    except BaseException as error:
        reraise_if_not_a_failure(error)
        return False


def unpickle_failure(error: BaseException) -> str:
    """Return why unpickling failed, in one line; it may have imported a module."""
    exit_called = exit_of(error)
    return f"its module called {exit_called}" if exit_called else one_line(error)
