"""Find the modules that have bound a function of ``time`` to a name of their own: ``from time import sleep``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import ExitStack
    from types import ModuleType

# Of the standard library, these wait for locks with their names, which is virtual in a run's threads. Others wait in C.
_OF_LIBRARY = frozenset(("queue", "sched", "threading"))
_NOT_HERE = (sys.stdlib_module_names - _OF_LIBRARY) | {"serve_llm_hooks", __name__.partition(".")[0]}


class BoundNames:
    """The names that modules have for functions that are to be replaced.

    Args:
        replacements: the functions, and what takes their place.
    """

    def __init__(self, replacements: Mapping[Callable[..., Any], Callable[..., Any]]) -> None:
        self._replacements = {id(function): (function, new) for function, new in replacements.items()}
        self._seen: dict[str, ref[ModuleType]] = {}
        self._found: list[tuple[ref[ModuleType], str, int]] = []
        self._newest: tuple[int, str, int] = (0, "", 0)

    def replace(self, undo: ExitStack) -> None:
        """Replace the functions under all these names, until ``undo`` is closed."""
        self._look_at_new_modules()
        replaced: list[tuple[dict[str, Any], str, int]] = []
        for module, name, function_id in self._found:
            names = getattr(module(), "__dict__", {})
            if id(names.get(name)) == function_id:  # a test may have put something else there
                names[name] = self._replacements[function_id][1]
                replaced.append((names, name, function_id))
        undo.callback(self._restore, replaced)

    def _restore(self, replaced: list[tuple[dict[str, Any], str, int]]) -> None:
        for names, name, function_id in replaced:
            function, new = self._replacements[function_id]
            if names.get(name) is new:
                names[name] = function

    def _look_at_new_modules(self) -> None:
        """Look at the modules that were imported since the last time. Usually there are none, and this is quick."""
        name = next(reversed(sys.modules))
        newest = (len(sys.modules), name, id(sys.modules.get(name)))
        if newest == self._newest:
            return
        self._newest = newest
        seen, found = self._seen, self._found
        for name, module in tuple(sys.modules.items()):
            known = seen.get(name)
            if (known is not None and known() is module) or name.partition(".")[0] in _NOT_HERE:
                continue
            try:
                seen[name] = ref(module)
                names = tuple(vars(module).items())
            except (TypeError, RuntimeError):  # it is no module, or another thread is importing it
                continue
            found += [(seen[name], each, id(value)) for each, value in names if id(value) in self._replacements]
        self._found = [each for each in found if each[0]() is not None]
