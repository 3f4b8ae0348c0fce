"""Find hooks that change the config on a node, where it is a copy that nobody else sees."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.values import same_value
from serve_llm_hooks._node import work

from .._simulation.copies import copied

if TYPE_CHECKING:
    from collections.abc import Callable


def watch_config(tell: Callable[[str], object]) -> None:
    """From now on, tell at the process's end which fields of a node's config have changed."""
    load = work._Work._load_llm_config

    def load_and_keep(own: work._Work) -> Any:
        config = load(own)
        before = {name: copied(value) for name, value in _fields(config).items()}

        def compare() -> None:
            for name, value in _fields(config).items():
                if not same_value(value, before.get(name)):
                    tell(name)

        atexit.register(compare)
        return config

    work._Work._load_llm_config = load_and_keep  # type: ignore[assignment]  # in this process, which is for one run


def _fields(config: Any) -> dict[str, Any]:
    """Return the fields of a config, and the entries of those that are dicts, as code writes them."""
    found: dict[str, Any] = {}
    for name, value in vars(config).items() if config is not None else ():
        if isinstance(value, dict):
            found |= {f"{name}[{key!r}]": held for key, held in value.items()}
        elif isinstance(value, str | int | float | bool | list | tuple | None):
            found[name] = value
    return found
