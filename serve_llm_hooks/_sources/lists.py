"""Check the lists that a config's fields are given, and make them lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .._core.errors import HookLoadError
from .._core.messages import path_or_type
from .._core.registry import HookRegistry


def checked_list(callbacks: Any) -> list[Any] | None:
    """Return the value of ``callbacks=`` as a list.

    Raises:
        HookLoadError: it is none; one path, or one function, is a common mistake.
    """
    if callbacks is None:
        return None
    if isinstance(callbacks, str) or not isinstance(callbacks, Iterable):
        raise HookLoadError(f"callbacks= is a list, as in callbacks=['pkg.mod:fn'], not {path_or_type(callbacks)}")
    return list(callbacks)


def checked_hooks(hooks: Any) -> list[Any] | None:
    """Return the value of ``hooks=`` as a list.

    Raises:
        HookLoadError: it is none; a registry is an entry of one.
    """
    if hooks is None or isinstance(hooks, list | tuple):
        return None if hooks is None else list(hooks)
    advice = ". A registry is an entry of the list: hooks=[registry]" if isinstance(hooks, HookRegistry) else ""
    raise HookLoadError(f"hooks= is a list, as in hooks=['my_company.llm_hooks'], not {path_or_type(hooks)}{advice}")
