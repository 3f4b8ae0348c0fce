"""Names of classes, as recipes take them: ``"module:Class"``."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any


def split(path: object) -> tuple[str, str]:
    """Return the module and the class in ``"module:Class"``.

    Raises:
        ValueError: it is written otherwise.
    """
    module, _, name = path.partition(":") if isinstance(path, str) else ("", "", "")
    if module.endswith(".py") or not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise ValueError(f"path= names a class as 'my_company.module:Class', not {path!r}")
    return module, name


def check_is_there(module: str) -> None:
    """Check that a module can be imported here, without importing it.

    Raises:
        ModuleNotFoundError: it cannot.
    """
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # its package cannot
        found = None
    if found is None:
        raise ModuleNotFoundError(f"there is no module {module!r} in this process: is it installed on this node?")


def load(path: str) -> Any:
    """Return the class.

    Raises:
        ModuleNotFoundError: its module is not there.
        AttributeError: it is not in its module.
    """
    module, name = split(path)
    check_is_there(module)
    found = getattr(import_module(module), name, None)
    if found is None:
        raise AttributeError(f"{module} has no {name}")
    return found
