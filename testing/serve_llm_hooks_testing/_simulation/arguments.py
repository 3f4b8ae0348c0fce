"""Checks of the numbers that a test gives."""

from __future__ import annotations

from ..errors import HarnessError


def check_seconds(name: str, value: object) -> float:
    """Return a time in seconds as a float.

    Raises:
        HarnessError: it is negative, infinite, or no number.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise HarnessError(f"{name}= is a number of seconds, 0 or more, not {value!r}")
    return float(value)


def check_count(name: str, value: object) -> int:
    """Return a whole number above zero.

    Raises:
        HarnessError: it is not one.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise HarnessError(f"{name}= is a whole number, 1 or more, not {value!r}")
    return value
