"""``SERVE_LLM_HOOKS_DISABLE``: single hooks that are turned off at the next start, whatever a config says."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .allow import variable_entries

if TYPE_CHECKING:
    from .._core.hook import Hook


DISABLE = "SERVE_LLM_HOOKS_DISABLE"


class DisableList:
    """The hooks that the variable turns off, as it stands when this is made: one start has one answer.

    Attributes:
        value: the variable; ``None`` turns nothing off.
    """

    def __init__(self) -> None:
        self.value: str | None = os.environ.get(DISABLE)
        self._entries: tuple[str, ...] = variable_entries(DISABLE) or ()
        self._used: set[str] = set()

    def entry_for(self, hook: Hook) -> str | None:
        """Return the entry that turns a hook off; ``None`` if it runs."""
        found = [entry for entry in self._entries if _matches(entry, hook)]
        self._used.update(found)
        return found[0] if found else None

    @property
    def unused(self) -> tuple[str, ...]:
        """The entries that have matched no hook so far."""
        return tuple(entry for entry in self._entries if entry not in self._used)


def names_of(hook: Hook) -> tuple[str, ...]:
    """Return the names of a hook in the variable: bare, by path with a colon or a dot, ``file.py:name`` for a file."""
    in_source = f"{hook.source}:{hook.path.partition(':')[2]}"
    return tuple(dict.fromkeys((hook.name, hook.path, hook.path.replace(":", "."), in_source)))


def _matches(entry: str, hook: Hook) -> bool:
    from fnmatch import fnmatchcase

    bare, *paths = names_of(hook)
    is_path = ":" in entry or "." in entry
    return any(name == entry or fnmatchcase(name, entry) for name in (paths if is_path else (bare,)))
