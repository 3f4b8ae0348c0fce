"""Foreign objects whose own code fails when they are put into a message, and groups that are too large for one."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Unreadable:
    """A value without a ``repr``."""

    def __repr__(self) -> str:
        raise LookupError("no repr")


class UnreadableError(ValueError):
    """An exception without a text, which says of itself that it is none."""

    def __str__(self) -> str:
        raise LookupError("no text")

    def __repr__(self) -> str:
        raise LookupError("no repr")

    def __bool__(self) -> bool:
        return False


class HostileError(Exception):
    """An exception of which nothing at all can be read, its class included."""

    def __getattribute__(self, name: str) -> Any:
        raise LookupError(f"no {name}")


def _get(self: object) -> Any:
    raise LookupError("no value")


def _set(self: object, value: object) -> None:  # Python assigns tracebacks
    ...


READ_BY_PYTHON = ("__cause__", "__class__", "__context__", "__notes__", "__suppress_context__", "__traceback__", "args")
"""Attributes that Python reads of an exception that it shows."""


def without(name: str, base: type[BaseException] = ValueError) -> type[BaseException]:
    """Return a class of exceptions whose property of this name cannot be read."""
    return type("PartlyHostileError", (base,), {name: property(_get, _set)})


HOSTILE: dict[str, Callable[[], BaseException]] = {
    "everything": partial(HostileError, "the text"),
    **{name: partial(without(name), "the text") for name in READ_BY_PYTHON},
    "exceptions": partial(without("exceptions", ExceptionGroup), "the text", [ValueError("inner")]),
    "code": partial(without("code", SystemExit), "the text"),
    "name": partial(without("name", ImportError), "the text"),
    "filename": partial(without("filename", SyntaxError), "the text"),
}
"""Make exceptions of which something raises when it is read, by what that is."""


class NoStringError(ValueError):
    """An exception whose text is no string."""

    def __str__(self) -> Any:
        return 7


def shared(depth: int) -> BaseException:
    """Return a group of two that are one, and so on: few exceptions, with 2**depth ways to them."""
    error: Exception = ValueError("the innermost")
    for _ in range(depth):
        error = ExceptionGroup("shared", [error, error])
    return error


def deep(depth: int) -> BaseException:
    """Return a group in a group in a group."""
    error: Exception = ValueError("the innermost")
    for _ in range(depth):
        error = ExceptionGroup("deep", [error])
    return error
