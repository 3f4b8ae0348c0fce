"""Import a package's public names on first use, from the one list of them that checkers read too.

A package lists its names once, as imports under ``if TYPE_CHECKING:``, which Python does not run::

    if TYPE_CHECKING:
        from ._core.errors import HookError as HookError

    __getattr__, __dir__ = _lazy_imports.attach(__name__)
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def attach(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package. ``__all__`` is one of the names that they know."""

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            return sorted(listed(package))
        if name.startswith("__"):  # tools ask for many of these
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = module_of(package, name)
        if module is None:
            raise _NoSuchName(package, name)
        from importlib import import_module  # decorating needs none of this

        value = getattr(import_module(module, package), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *listed(package)})

    return __getattr__, __dir__


class _NoSuchName(AttributeError):
    """Names the nearest of a package's names, where it is shown.

    Nobody is shown most of them: ``from . import module`` asks a package for each module before it imports it.
    """

    def __str__(self) -> str:
        from ._core.messages import did_you_mean

        package, name = self.args
        return f"module {package!r} has no attribute {name!r}{did_you_mean(name, listed(package))}"


def module_of(module: str, name: str) -> str | None:
    """Return the module from which a module imports a name as ``from ... import Name as Name``, if it does."""
    source = _source(module)
    for end in ",\n":  # a start asks for few names of many: reading the whole list takes twenty times as long
        before, found, _ = source.partition(f" {name} as {name}{end}")
        if found:
            return before.rpartition("from ")[2].partition(" ")[0]
    return None


def listed(module: str) -> dict[str, str]:
    """Return all names that a module imports so, with the module of each."""
    import re

    found: dict[str, str] = {}
    origin = ""
    imports = re.findall(r"from (\S+) import\b|\b(\w+) as \2\b", _source(module))  # ast takes ten times as long
    for imported, name in imports:
        origin = imported or origin
        if name:
            found[name] = origin
    return found


def _source(module: str) -> str:
    """Return the source of a module; an empty text where there is none, as where only what is compiled is installed."""
    spec: Any = sys.modules[module].__spec__
    try:
        source: str = spec.loader.get_data(spec.origin).decode()
    except Exception:  # another kind of loader, or of file
        from linecache import getlines  # it knows more ways, and is slower

        return "".join(getlines(str(spec and spec.origin), vars(sys.modules[module])))
    return source.replace("\r\n", "\n")
