"""Foreign objects whose own code fails when they are put into a message, and groups that are too large for one."""

from __future__ import annotations

from typing import Any


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
