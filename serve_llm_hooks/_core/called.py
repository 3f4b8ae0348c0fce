"""Find the hooks that a name stands for, as people write it in a fault, in an assertion and on the command line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .origin import path_of
from .points import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .hook import Hook


def called(name: str, hooks: Iterable[Hook]) -> list[Hook]:
    """Return the hooks that a name stands for. They may be of several paths; then it is ambiguous."""
    return [hook for hook in hooks if name == hook.name or is_called(hook.path, name)]


def names_of(path: str) -> tuple[str, ...]:
    """Return the names of the hook with this path, the shortest first. A method of a point has that of its class too.

    >>> names_of("my_company.llm_hooks:check_disk")
    ('check_disk', 'my_company.llm_hooks:check_disk')
    >>> for name in names_of("my_company.llm_hooks:Setup.on_before_init"):
    ...     print(name)
    Setup
    Setup.on_before_init
    my_company.llm_hooks:Setup
    my_company.llm_hooks:Setup.on_before_init
    """
    module, _, qualname = path.partition(":")
    owner, _, method = qualname.rpartition(".")
    if method not in HOOK_POINTS:
        return tuple(dict.fromkeys((method, _inside(qualname), qualname, path)))
    return tuple(dict.fromkeys((_inside(owner), _inside(qualname), owner, qualname, f"{module}:{owner}", path)))


def is_called(path: str, name: str) -> bool:
    """Return whether a name stands for the hook with this path.

    >>> path = "serve_llm_hooks.recipes.baked_model:BakedModel.on_before_download"
    >>> names = ("on_before_download", "BakedModel.on_before_download", "BakedModel", path)
    >>> [is_called(path, name) for name in names]
    [True, True, True, True]
    >>> import serve_llm_hooks.recipes
    >>> is_called(path, "serve_llm_hooks.recipes:BakedModel")  # as a config names the class
    True
    """
    names = (*names_of(path), path.partition(":")[2].rpartition(".")[2])
    return name in names or _defined_at(name) in names


def _inside(qualname: str) -> str:
    """Return a name without the functions that it is defined in."""
    return qualname.rpartition("<locals>.")[2]


def _defined_at(name: str) -> str:
    """Return the path under which that is defined which ``module:Class.method`` names, if it is imported already."""
    module, colon, qualname = name.partition(":")
    first, dot, rest = qualname.partition(".")
    if colon and module in sys.modules:
        try:
            found = getattr(sys.modules[module], first)
        except Exception:  # a module may import a name when it is asked for it
            return name
        if callable(found):
            return f"{path_of(found)}{dot}{rest}"
    return name
