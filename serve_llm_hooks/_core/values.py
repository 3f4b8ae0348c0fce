"""Compare parameters of hooks, and a config's values: by what they are, never by how they print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


def same_values(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Return True if two sets of parameters are equal."""
    return same_value(dict(ours), dict(theirs))


def same_value(ours: Any, theirs: Any) -> bool:
    """Return True if two values are equal. Those that cannot be compared (arrays, for one) are not.

    Example:
        >>> same_value({"a": 1, "b": [2]}, {"b": [2], "a": 1})
        True
        >>> same_value(1, True)
        False
    """
    try:
        return _are_same(ours, theirs)
    except Exception:  # of a comparison that is not ours
        return False


def _are_same(ours: Any, theirs: Any) -> bool:
    # A loop: values that hold themselves, or are nested deeply, would overflow the stack where a library has raised
    # Python's limit (mypy and torch do).
    pairs, compared = [(ours, theirs)], set[tuple[int, int]]()
    while pairs:
        ours, theirs = pairs.pop()
        if ours is theirs or (id(ours), id(theirs)) in compared:
            continue
        if type(ours) is not type(theirs):
            return False
        compared.add((id(ours), id(theirs)))
        if type(ours) is dict:
            if ours.keys() != theirs.keys():
                return False
            pairs.extend((value, theirs[key]) for key, value in ours.items())
        elif type(ours) in (list, tuple):
            if len(ours) != len(theirs):
                return False
            pairs.extend(zip(ours, theirs, strict=True))
        elif (ours == theirs) is not True:
            return False
    return True


def hash_of(value: Any, *, depth: int = 4) -> int:
    """Return a number that is the same for equal values, so that few have to be compared."""
    try:
        if isinstance(value, dict | list | tuple) and not depth:
            return 0
        if isinstance(value, dict):
            return hash(frozenset((key, hash_of(each, depth=depth - 1)) for key, each in value.items()))
        if isinstance(value, list | tuple):
            return hash(tuple(hash_of(each, depth=depth - 1) for each in value))
        return hash(value)
    except Exception:
        return 0
