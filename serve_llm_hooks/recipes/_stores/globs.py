"""Which names a glob stands for, and whether two globs may stand for one name."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

_GLOB = re.compile(r"[*?\[]")
_PIECE = re.compile(r"\[!?+\]?+[^\]]*\]|.", re.DOTALL)  # as fnmatch reads it: a bracket that is not closed is itself
_END = ""


def is_glob(name: str) -> bool:
    """Return True if a name stands for several files."""
    return _GLOB.search(name) is not None


def fits(name: str, wanted: str) -> bool:
    """Return True if a name is the one that is wanted, or one that a glob stands for."""
    return fnmatchcase(name, wanted) if is_glob(wanted) else name == wanted


def may_be_one(one: str, other: str) -> bool:
    """Return True if there is a name that both stand for; each is a name or a glob.

    Example:
        >>> may_be_one("*.json", "config*"), may_be_one("*.json", "*.jinja")
        (True, False)
    """
    ours, theirs = [*_PIECE.findall(one), _END], [*_PIECE.findall(other), _END]
    todo, seen = [(0, 0)], set()  # how far each has got with the same beginning of a name
    while todo:
        place = i, j = todo.pop()
        if place in seen:
            continue
        seen.add(place)
        pair = a, b = ours[i], theirs[j]
        if pair == (_END, _END):
            return True
        if "*" in pair:  # it ends here, or takes one more
            todo += [(i + 1, j)] * (a != _END) + [(i, j + 1)] * (b != _END)
        elif _END not in pair and _have_one(a, b):
            todo.append((i + 1, j + 1))
    return False


def _have_one(a: str, b: str) -> bool:
    """Return True if two pieces of globs, each of one character, may be the same one."""
    # Where two sets of ranges overlap, one of the ranges begins: at a bound that is written, or behind one.
    written = {ord(each) for each in a + b}
    chars = {0, *written, *(each + 1 for each in written if each < 0x10FFFF)}
    return any(fnmatchcase(chr(each), a) and fnmatchcase(chr(each), b) for each in chars)
