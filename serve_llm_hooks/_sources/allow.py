"""``SERVE_LLM_HOOKS_ALLOW``: the modules and files that hooks may come from, whatever a config says.

The variable is read where it is needed and not at import: a process has the environment that its deployment gave it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .._core.errors import HookNotAllowedError
from .._core.origin import path_of, source_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .._core.hook import Hook


ALLOW = "SERVE_LLM_HOOKS_ALLOW"

# The library and its test harness are always allowed; recipes are not: they import what a config names, and fetch.
_OWN = ("serve_llm_hooks", "serve_llm_hooks_testing")
_RECIPES = "serve_llm_hooks.recipes"

_MAIN = "__main__"


def is_allowed(source: str, *, environ: Mapping[str, str] | None = None) -> bool:
    """Return True if hooks may come from a source.

    Args:
        source: a module's name, or a file's resolved path.
        environ: the environment of the process in which they would run; left out, this one's.
    """
    patterns = variable_entries(ALLOW, environ)
    is_own = source.partition(".")[0] in _OWN and not f"{source}.".startswith(f"{_RECIPES}.")
    if patterns is None or is_own:
        return True
    return any(_matches(source, pattern) for pattern in patterns)


def _matches(source: str, pattern: str) -> bool:
    if pattern == source:
        return True
    if source == _MAIN or ("/" in source) != ("/" in pattern):
        return False
    from fnmatch import fnmatchcase

    # Importing a module of a package runs the package, so `pkg.*` means both.
    return fnmatchcase(source, pattern) or (pattern.endswith(".*") and fnmatchcase(source, pattern[:-2]))


def check_source(
    source: str, what: str, *, where: str = "in this process", environ: Mapping[str, str] | None = None
) -> None:
    """Check that hooks may come from a source; to be called before anything of it is imported.

    Args:
        source: as for :func:`is_allowed`.
        what: what the config names, in words, for the message.
        where: where it would run, in words.
        environ: as for :func:`is_allowed`.

    Raises:
        HookNotAllowedError: they may not; the message says what to do.
    """
    if is_allowed(source, environ=environ):
        return
    value = (os.environ if environ is None else environ)[ALLOW]
    kind = "file" if "/" in source else "module"
    if not value.replace(",", " ").split():
        why = "the variable is set and empty, which allows nothing"
    elif source == _MAIN:
        why = "code that travels by value (__main__) is allowed by '__main__', and by no pattern"
    else:
        why = f"no pattern in it matches the {kind} {source!r}"
        if kind == "file":
            why += " (those with a / are for files, and match the whole path)"
    raise HookNotAllowedError(
        f"{what} may not run {where}: {ALLOW}={value!r}, and {why}. Name what it allows, or add {source!r} to it in "
        "the environment of every process that runs hooks; unset, it allows everything"
    )


def check_hooks(hooks: Iterable[Hook]) -> None:
    """Check that loaded hooks may run: a function's module need not be the one in whose namespace it was found.

    Raises:
        HookNotAllowedError: one may not.
    """
    if ALLOW in os.environ:
        for hook in hooks:
            check_source(hook.source, f"hook {hook.path} at {hook.point}")


def check_callable(callback: Callable[..., Any]) -> None:
    """Check that a callback that was given, or found by its path, may run.

    Raises:
        HookNotAllowedError: it may not.
    """
    if ALLOW in os.environ:
        check_source(source_of(callback), f"callback {path_of(callback)}")


def variable_entries(variable: str, environ: Mapping[str, str] | None = None) -> tuple[str, ...] | None:
    """Return a variable's entries, between commas or spaces, each once; ``None`` where it is not set."""
    value = (os.environ if environ is None else environ).get(variable)
    return None if value is None else tuple(dict.fromkeys(value.replace(",", " ").split()))
