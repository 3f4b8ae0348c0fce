"""Check the limits that are given in seconds, wherever that is."""

from __future__ import annotations

from .messages import describe

_LONGEST_S = 1e12  # thirty thousand years: event loops count in nanoseconds, and an int may be larger than any float


def check_seconds(name: str, value: object, *, zero: bool = False, shown: str = "") -> float:
    """Return a limit in seconds as a float.

    Args:
        name: what it is called where it was given.
        value: the limit.
        zero: whether it may be 0.
        shown: how it was given; left out, as it is.

    Raises:
        ValueError: it is no number, too small, or too large.

    Example:
        >>> check_seconds("timeout_s=", 60)
        60.0
    """
    wanted = "a number of seconds, 0 or more" if zero else "a positive number of seconds"
    shown = shown or describe(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if 0 < value <= _LONGEST_S or (zero and value == 0):
            return float(value)
        if value > _LONGEST_S:
            wanted += ", at most 1e12"
            shown = "a larger one" if shown == "an int" else shown  # too long to be shown
    raise ValueError(f"{name} is {wanted}, as in 600, not {shown}")
