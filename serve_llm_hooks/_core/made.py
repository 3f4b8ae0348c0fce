"""Remember where hooks were made: which module's own code decorated them, and at which line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .named_tuple import NamedTuple

if TYPE_CHECKING:
    from .hook import Hook


_OPTIMIZED = 0x1  # inspect.CO_OPTIMIZED: the code of a function, and not of a module or a class body

_MADE: dict[str, tuple[object, list[Made]]] = {}


class Made(NamedTuple):
    """A hook, and the line that made it, as ``file:line``."""

    hook: Hook
    where: str


def record(hook: Hook) -> None:
    """Record a hook with the module whose import decorates it, by whatever helper. Importing again begins anew."""
    frame = sys._getframe(1)
    while frame.f_code.co_flags & _OPTIMIZED:
        if frame.f_back is None:
            return  # a thread's function
        frame = frame.f_back
    module, spec = frame.f_globals.get("__name__"), frame.f_globals.get("__spec__")
    if spec is None or not isinstance(module, str) or module == "__main__":
        return  # a script: nobody names it, and a notebook's cells run again and again
    execution, made = _MADE.get(module, (None, []))
    if execution is not spec:
        made = []
        _MADE[module] = (spec, made)
    made.append(Made(hook, f"{frame.f_code.co_filename}:{frame.f_lineno}"))


def made_in(module: str) -> list[Made]:
    """Return the hooks that a module's import has decorated, in that order; to take one out is to forget it."""
    return _MADE.get(module, (None, []))[1]
