"""Compare the parameters of hooks: by their values, never by how they print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def same_values(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return True if two sets of parameters are equal. Those that cannot be compared (arrays, for one) are not.

    Example:
        >>> same_values({"a": 1, "b": [2]}, {"b": [2], "a": 1})
        True
        >>> same_values({"a": 1}, {"a": True})
        False
    """
    try:
        return _same(dict(ours), dict(theirs))
    except Exception:  # of a comparison that is not ours; nested too deeply
        return False


def _same(ours: Any, theirs: Any) -> bool:
    if ours is theirs:
        return True
    if type(ours) is not type(theirs):
        return False
    if type(ours) is dict:
        return ours.keys() == theirs.keys() and all(_same(value, theirs[key]) for key, value in ours.items())
    if type(ours) in (list, tuple):
        return len(ours) == len(theirs) and all(map(_same, ours, theirs))
    return (ours == theirs) is True


def hash_of(value: Any) -> int:
    """Return a number that is the same for equal values, so that few have to be compared."""
    try:
        if isinstance(value, dict):
            return hash(frozenset((key, hash_of(each)) for key, each in value.items()))
        if isinstance(value, list | tuple):
            return hash(tuple(map(hash_of, value)))
        return hash(value)
    except Exception:
        return 0
