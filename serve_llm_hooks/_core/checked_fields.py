"""Checked fields: a wrong assignment to ``ctx`` fails on its own line, not on a GPU node ten minutes later."""

from __future__ import annotations

import os
from dataclasses import field
from typing import TYPE_CHECKING, Any, NoReturn

from .download_mode import DownloadMode, DownloadModeName
from .messages import describe, did_you_mean, without_value

if TYPE_CHECKING:
    from collections.abc import Callable
    from enum import Enum


def _dict(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"ctx.{name} is a dict with string keys, not {without_value(value)}")
    for key in value:
        if not isinstance(key, str):
            raise TypeError(f"ctx.{name} is a dict with string keys, not one with the key {describe(key)}")
    return value


def _optional_dict(name: str, value: object) -> dict[str, Any] | None:
    return None if value is None else _dict(name, value)


def _bool(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"ctx.{name} is True or False, not {describe(value)}")
    return value


def _optional_path(name: str, value: object) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike):
        raise TypeError(f"ctx.{name} is a path (str or os.PathLike) or None, not {describe(value)}")
    return os.fspath(value)


_CHECKS: dict[str | None, Callable[[str, object], object]] = {
    "dict": _dict,
    "dict?": _optional_dict,
    "bool": _bool,
    "path?": _optional_path,
}


def checked_field(kind: str, default: Any = None, *, factory: Callable[[], Any] | None = None) -> Any:
    """Return a dataclass field whose assignments are checked.

    Args:
        kind: ``"dict"``, ``"dict?"`` (or ``None``), ``"bool"``, ``"path?"``, ``"read-only"``, or ``"any"``.
        default: the field's default.
        factory: makes the default, for mutable ones.
    """
    if factory is not None:
        return field(default_factory=factory, metadata={"kind": kind})
    return field(default=default, metadata={"kind": kind})


def _assign(ctx: Any, name: str, value: object) -> None:
    fields = type(ctx).__dataclass_fields__
    if name not in fields:
        if hasattr(type(ctx), name):  # a property
            raise AttributeError(f"ctx.{name} is read-only")
        raise AttributeError(
            f"{type(ctx).__name__} has no field {name!r}{did_you_mean(name, fields)}. "
            f"What hooks keep for each other goes into ctx.custom_data[{name!r}]."
        )
    kind = fields[name].metadata.get("kind")
    if kind == "read-only" and name in ctx.__dict__:
        raise AttributeError(f"ctx.{name} is read-only")
    refuse = ctx.__dict__.get("_refuse")
    if refuse is not None and name != "custom_data":
        raise AttributeError(refuse(name))
    check = _CHECKS.get(kind)
    object.__setattr__(ctx, name, check(name, value) if check else value)


# The last point at which a field can be changed that is used before the engine starts.
_LAST_POINTS = {
    "placement_group": "on_after_placement_group",
    "worker_node_download_model": "on_before_download",
    "local_node_download_model": "on_before_download",
    "run_init_node": "on_before_download",
    "download_model": "on_before_node_download",
}


def too_late(last_point: str, name: str) -> str:
    """Return why a field cannot be changed once the engine has been given everything."""
    return (
        f"ctx.{name} cannot be changed any more: the engine has been given it. {_LAST_POINTS.get(name, last_point)} "
        "is the last point at which it can"
    )


def in_background(until: str, name: str) -> str:
    """Return why a hook that works in the background cannot change a field."""
    return (
        f"ctx.{name} cannot be changed by a hook that works in the background (until={until!r}), beside others: put "
        "what it finds into ctx.custom_data"
    )


class ClosedDict(dict[str, Any]):
    """A field's dict that cannot be changed. Its copies, and what is pickled of it, are plain dicts."""

    def __init__(self, values: dict[str, Any], refusal: str) -> None:
        super().__init__(values)
        self._refusal = refusal

    def _refuse(self, *_args: object, **_kwargs: object) -> NoReturn:
        raise TypeError(self._refusal)

    if not TYPE_CHECKING:  # pragma: no branch  # a checker is to see a dict
        __setitem__ = __delitem__ = __ior__ = update = setdefault = pop = popitem = clear = _refuse

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        """Return what a copy, and an unpickled one, is made of."""
        return dict, (dict(self),)


def _missing(ctx: Any, name: str) -> Any:
    """Suggest the nearest name. Python asks here for what it has not found."""
    if hasattr(type(ctx), name):  # a property, in which an AttributeError was raised: again, as it was
        return object.__getattribute__(ctx, name)
    if name.startswith("__"):  # copy, pickle and others try many of these
        raise AttributeError(f"{type(ctx).__name__} has no {name}")
    names = {*type(ctx).__dataclass_fields__, *(each for each in dir(type(ctx)) if not each.startswith("_"))}
    raise AttributeError(
        f"{type(ctx).__name__} has no field {name!r}{did_you_mean(name, sorted(names))}. "
        "What hooks keep for each other is in ctx.custom_data."
    )


class Checked:
    """Base of contexts: checks every assignment for unknown names, read-only fields and wrong values."""

    __slots__ = ()

    if not TYPE_CHECKING:  # pragma: no branch  # a checker that sees these accepts any name
        __setattr__ = _assign
        __getattr__ = _missing


class ModeField:
    """A descriptor that takes a download mode, its name or Ray's enum, and gives a ``DownloadMode``.

    A descriptor, because checkers know no other way to accept more types than are given back.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, ctx: object | None, owner: type) -> DownloadMode:
        # Read from the class, it is the dataclass field's default.
        return DownloadMode.MODEL_AND_TOKENIZER if ctx is None else ctx.__dict__[self._name]

    def __set__(self, ctx: object, value: DownloadMode | DownloadModeName | Enum) -> None:
        ctx.__dict__[self._name] = _mode(self._name, value)


class OptionalModeField:
    """A :class:`ModeField` that may also be ``None``, its default."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, ctx: object | None, owner: type) -> DownloadMode | None:
        return None if ctx is None else ctx.__dict__[self._name]

    def __set__(self, ctx: object, value: DownloadMode | DownloadModeName | Enum | None) -> None:
        ctx.__dict__[self._name] = None if value is None else _mode(self._name, value)


def _mode(name: str, value: object) -> DownloadMode:
    try:
        return DownloadMode.of(value)
    except ValueError as error:
        raise ValueError(f"ctx.{name} = {describe(value)}: {error}") from None
