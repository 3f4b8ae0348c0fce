"""``SERVE_LLM_HOOKS_DISABLE``: single hooks that are turned off at the next start, whatever a config says."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._core.hook import Hook


DISABLE = "SERVE_LLM_HOOKS_DISABLE"

_ENTRY = r"(?:[^\s,(]|\([^()]*\)|\()+"  # between commas or spaces, but those of parameters
_PARTS = r"(?s)(.*?)(\([^()]*=…\))?(?:#(\d+))?"  # a name, and the rest as in the log


class DisableList:
    """The hooks that the variable turns off, as it stands when this is made: one start has one answer.

    Attributes:
        value: the variable; ``None`` turns nothing off.
    """

    def __init__(self) -> None:
        self.value: str | None = os.environ.get(DISABLE)
        self._entries: tuple[str, ...] = tuple(dict.fromkeys(re.findall(_ENTRY, self.value) if self.value else ()))
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


def suggestions(hook: Hook) -> tuple[str, ...]:
    """Return what "did you mean" may say for a hook: one that is written like another is named with its number."""
    names = names_of(hook)
    return names if hook.number == 1 else tuple(f"{name}#{hook.number}" for name in names)


def _matches(entry: str, hook: Hook) -> bool:
    from fnmatch import fnmatchcase

    given, parameters, number = _split(entry)
    if number not in (None, str(hook.number)) or parameters not in (None, _parameters_of(hook)):
        return False
    bare, *paths = names_of(hook)
    is_path = ":" in given or "." in given
    return any(name == given or fnmatchcase(name, given) for name in (paths if is_path else (bare,)))


def _split(entry: str) -> tuple[str, str | None, str | None]:
    parts = re.fullmatch(_PARTS, entry)
    return (parts[1], parts[2], parts[3]) if parts else (entry, None, None)


def _parameters_of(hook: Hook) -> str:
    return f"({', '.join(f'{key}=…' for key in hook.kwargs)})"
