"""Read the hooks of a config's fields ``initialization_class``, ``callback`` and ``callbacks``.

What few configs are given is imported for those.
"""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .._core.errors import HookLoadError
from .._core.messages import masked
from .allow import check_hooks
from .class_style import hooks_of_class
from .import_path import check_is_there, load_callback

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.hook import Hook


def hooks_of_fields(config: Any) -> list[Hook]:
    """Return the hooks of a config's fields ``initialization_class``, ``callback`` and ``callbacks``.

    Raises:
        ValueError, ImportError, AttributeError, TypeError: as :func:`serve_llm_hooks.load_callback`.
        HookLoadError: the value cannot be used as the field says. ``HookNotAllowedError``, a subclass.
    """
    hooks = [
        *_hooks_of(config, "initialization_class", "initialization_kwargs", _hooks_of_initialization_class),
        *_hooks_of(config, "callback", "callback_kwargs", hooks_of_class),
    ]
    if config.callbacks is not None:
        from .phase_style import hooks_of_phase_callbacks

        with errors_of_field("callbacks"):
            hooks += hooks_of_phase_callbacks(config.callbacks)
    check_hooks(hooks)
    return hooks


def _hooks_of(config: Any, field: str, arguments: str, hooks_of: Callable[[Any, Any], list[Hook]]) -> list[Hook]:
    given, kwargs = getattr(config, field), getattr(config, arguments)
    if given is not None:
        with errors_of_field(field):
            check_is_there(given, f"{field}=")
            return hooks_of(load_callback(given) if isinstance(given, str) else given, kwargs)
    if kwargs:
        raise HookLoadError(f"{arguments}={masked(kwargs)} without {field}=...: there is nothing to make with them")
    return []


@contextmanager
def errors_of_field(field: str) -> Iterator[None]:
    """Note in an error, as its ``config_field``, which field it is about: a callback's path may be in one of three."""
    try:
        yield
    except Exception as error:
        vars(error).setdefault("config_field", field)
        raise


def _hooks_of_initialization_class(given: Any, kwargs: Any) -> list[Hook]:
    from .replace_style import hooks_of_initialization_class

    return hooks_of_initialization_class(given, kwargs)


def warn_of_initialization_class(config: Any, *, stacklevel: int) -> None:
    """Warn, on the line that makes the config, that ``initialization_class`` is deprecated."""
    if config.initialization_class is not None:
        warnings.warn(
            "initialization_class=... is kept for old code: write a class with `async def on_custom_init(self, ctx)`, "
            "and `on_before_init` returning False, and give it as callback=... (docs/migrating.md)",
            DeprecationWarning,
            stacklevel=stacklevel + 1,
        )
