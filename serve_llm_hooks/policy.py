"""Who may run code: two environment variables that decide over whatever a config says.

``SERVE_LLM_HOOKS_ALLOW`` lists the modules that hooks may come from; ``SERVE_LLM_HOOKS_DISABLE`` turns single hooks
off. Both are read when they are needed, and not at import: a process has the environment that its deployment gave it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from .registry import Hook

__all__ = [
    "ALLOW",
    "DISABLE",
    "Switches",
    "allows",
    "check",
    "check_hooks",
    "check_object",
    "file_module",
    "module_of",
    "names_of",
    "source_of",
]

ALLOW = "SERVE_LLM_HOOKS_ALLOW"
DISABLE = "SERVE_LLM_HOOKS_DISABLE"

# What runs the hooks, and what tests them, is no one's hooks path.
_OWN = ("serve_llm_hooks", "serve_llm_hooks_testing")

_MAIN = "__main__"

_files: dict[str, str] = {}  # the modules that were made of a file by its path


def file_module(file: Path) -> str:
    """The name of the module that is made of a hooks file; the file is its source from now on."""
    path = file.as_posix()
    name = module_of(path)
    _files[name] = path
    return name


def module_of(source: str) -> str:
    """The other way round: the module that hooks from there have in their path."""
    if "/" not in source:
        return source
    import hashlib

    stem = source.rpartition("/")[2].removesuffix(".py")
    return f"{stem}_{hashlib.sha256(source.encode()).hexdigest()[:8]}"


def source_of(hook: Hook) -> str:
    """What of a hook the variable has to allow: the module that its function was defined in; for one that was loaded
    from a file by its path, the file.
    """
    module = hook.path.partition(":")[0]
    return _files.get(module) or _file_of(hook, module) or module


def _file_of(hook: Hook, module: str) -> str | None:
    """The file of a hook that was loaded from it in another process, and has come here by value: it says so still."""
    fn: Any = hook.fn
    if not hasattr(fn, "__globals__"):  # a partial, an instance that is called
        fn = getattr(fn, "func", type(fn).__call__)
    while hasattr(fn, "__wrapped__"):  # what wraps it may be from anywhere
        fn = fn.__wrapped__
    file = str(getattr(fn, "__globals__", {}).get("__file__", "")).replace("\\", "/")
    return file if "/" in file and module_of(file) == module else None


def allows(source: str, *, environ: Mapping[str, str] | None = None) -> bool:
    """Whether hooks may come from there.

    Args:
        source: a module's name, or a file's resolved path.
        environ: the environment of the process in which they would run; left out, this one's.
    """
    patterns = _listed(ALLOW, environ)
    if patterns is None or source.partition(".")[0] in _OWN:
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


def check(source: str, what: str, *, where: str = "in this process", environ: Mapping[str, str] | None = None) -> None:
    """See that hooks may come from there; to be called before anything is imported.

    Args:
        source: as for :func:`allows`.
        what: what was named, in words, for the message.
        where: where it would run, in words.
        environ: as for :func:`allows`.

    Raises:
        HookNotAllowedError: they may not; the message says what to do.
    """
    if allows(source, environ=environ):
        return
    from .errors import HookNotAllowedError

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
    """See that hooks that are loaded may run: a function's module need not be the one whose namespace it stood in.

    Raises:
        HookNotAllowedError: one may not.
    """
    if ALLOW in os.environ:
        for hook in hooks:
            check(source_of(hook), f"hook {hook.path} at {hook.point}")


def check_object(callback: Callable[..., Any]) -> None:
    """The same for a callable that is given, or was found.

    Raises:
        HookNotAllowedError: it may not run.
    """
    if ALLOW in os.environ:
        from .registry import Hook, HookOptions

        hook = Hook(callback, HookOptions("on_before_init"))  # its path is what a hook of it has
        check(source_of(hook), f"callback {hook.path}")


class Switches:
    """Which hooks are turned off.

    Attributes:
        value: the variable as it stands; ``None``: nothing is turned off.
    """

    def __init__(self) -> None:
        self.value: str | None = os.environ.get(DISABLE)
        self._entries: tuple[str, ...] = _listed(DISABLE, None) or ()
        self._used: set[str] = set()

    def entry_for(self, hook: Hook) -> str | None:
        """What in the variable turns a hook off; ``None``: it runs."""
        found = [entry for entry in self._entries if _names(entry, hook)]
        self._used.update(found)
        return found[0] if found else None

    @property
    def unused(self) -> tuple[str, ...]:
        """What in the variable has named no hook so far."""
        return tuple(entry for entry in self._entries if entry not in self._used)


def names_of(hook: Hook) -> tuple[str, ...]:
    """What a hook may be called in the variable: its bare name, its path, and with the file that it was loaded from."""
    in_source = f"{source_of(hook)}:{hook.path.partition(':')[2]}"
    return tuple(dict.fromkeys((hook.name, hook.path, in_source)))


def _names(entry: str, hook: Hook) -> bool:
    from fnmatch import fnmatchcase

    bare, *paths = names_of(hook)
    return any(name == entry or fnmatchcase(name, entry) for name in (paths if ":" in entry else (bare,)))


def _listed(variable: str, environ: Mapping[str, str] | None) -> tuple[str, ...] | None:
    """A variable's entries, between commas or spaces, each once; ``None`` where it is not set."""
    value = (os.environ if environ is None else environ).get(variable)
    return None if value is None else tuple(dict.fromkeys(value.replace(",", " ").split()))
