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
    modules: dict[str, str] = {}

    def modules_by_name() -> dict[str, str]:
        if not modules:
            modules.update(listed(package))
        return modules

    def __getattr__(name: str) -> Any:
        if name == "__all__":
            return sorted(modules_by_name())
        if name.startswith("__"):  # tools ask for many of these
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = modules_by_name().get(name)
        if module is None:
            raise _NoSuchName(package, name, modules)
        from importlib import import_module  # decorating needs none of this

        value = getattr(import_module(module, package), name)
        setattr(sys.modules[package], name, value)
        return value

    def __dir__() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules_by_name()})

    return __getattr__, __dir__


class _NoSuchName(AttributeError):
    """Names the nearest of a package's names, where it is shown.

    Nobody is shown most of them: ``from . import module`` asks a package for each module before it imports it.
    """

    def __str__(self) -> str:
        from ._core.messages import did_you_mean

        package, name, choices = self.args
        return f"module {package!r} has no attribute {name!r}{did_you_mean(name, choices)}"


def listed(module: str) -> dict[str, str]:
    """Return the names that a module imports as ``from ... import Name as Name``, with the module of each."""
    import re
    from linecache import getlines  # it finds the source whatever loader a module has: pytest's own, or a zip's

    spec = sys.modules[module].__spec__
    source = "".join(getlines(str(spec and spec.origin), vars(sys.modules[module])))
    found: dict[str, str] = {}
    origin = ""
    for imported, name in re.findall(r"from (\S+) import\b|\b(\w+) as \2\b", source):  # ast takes ten times as long
        origin = imported or origin
        if name:
            found[name] = origin
    return found
