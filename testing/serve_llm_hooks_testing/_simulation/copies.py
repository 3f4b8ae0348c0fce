"""Copies of what a config holds: each process has its own."""

from __future__ import annotations

import copy
from typing import TypeVar

T = TypeVar("T")


def copied(value: T) -> T:
    """Return a copy that shares nothing with the value; the value itself where it cannot be copied."""
    try:
        return copy.deepcopy(value)
    except Exception:
        return value
