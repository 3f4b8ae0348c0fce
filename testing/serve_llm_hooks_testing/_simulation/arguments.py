"""Checks of the numbers that a test gives."""

from __future__ import annotations

from serve_llm_hooks._core.messages import describe
from serve_llm_hooks._core.seconds import check_seconds as check_seconds_in_production

from ..errors import HarnessError


def check_seconds(name: str, value: object) -> float:
    """Return a time in seconds as a float.

    Raises:
        HarnessError: it is negative, too large, or no number.
    """
    return check_limit(f"{name}=", value, zero=True)


def check_limit(name: str, value: object, *, zero: bool = False) -> float:
    """Return a limit in seconds as a float; what a real cluster would refuse is refused in its words.

    Raises:
        HarnessError: it is no number, too small, or too large.
    """
    try:
        return check_seconds_in_production(name, value, zero=zero)
    except ValueError as error:
        raise HarnessError(str(error)) from None


def check_count(name: str, value: object) -> int:
    """Return a whole number above zero.

    Raises:
        HarnessError: it is not one.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise HarnessError(f"{name}= is a whole number, 1 or more, not {describe(value)}")
    return value
