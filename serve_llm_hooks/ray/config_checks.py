"""Check an ``LLMConfig`` where it is made, and before it is sent. A replica unpickles one without this."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._core.errors import HookLoadError
from .._core.until import SHUTDOWN, in_words
from .._process.payload import check_config, need_processes
from .._sources.entries import hooks_of_entries, load_hooks
from .._sources.fields import warn_of_initialization_class
from .._sources.select import check_together, warn_of_unmatched
from .._sources.weights import check_weights
from . import internals
from .hooked import starts_in_constructor

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._core.hook import Hook
    from .._sources.entries import HookRef

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

# The keys of a runtime_env that may bring a file that this process does not have, and those that may bring a module.
_BRINGS_FILES = ("working_dir", "image_uri", "container")
_BRINGS_MODULES = (*_BRINGS_FILES, "py_modules", "pip", "uv", "conda")


def check(config: Any) -> None:
    """Check a config that has just been made, and warn of what has no effect.

    Raises:
        HookLoadError: hooks that cannot be loaded, or do not fit the rest of the config.
        HookOrderError: an order that is impossible, or ambiguous.
    """
    here, loaded = load(config)
    warn_of_unmatched(here, config.model_id)
    if any(SHUTDOWN in (hook.point, hook.options.until) for hook in loaded):
        from .shutdown import warn_of_slow_hooks  # few configs have such hooks

        warn_of_slow_hooks(loaded, config.model_id, config.deployment_config)
    check_config(loaded, config)
    _check_weights(config)
    if (ours := need_processes(loaded, config.model_id)) and starts_in_constructor(config.server_cls):
        from .sglang import no_processes

        raise no_processes(in_words(ours[0]), config.model_id)
    warn_of_initialization_class(config, stacklevel=4)


def _check_weights(config: Any) -> None:
    if config.weights is None:
        return
    source = config.model_loading_config.model_source
    given = config.engine_kwargs.get("load_format")
    check_weights(
        config.weights,
        model_id=config.model_id,
        has_bucket=(
            internals.is_remote_path(source) if isinstance(source, str) else bool(source and source.bucket_uri)
        ),
        streaming_format=given if given is not None and given in internals.STREAMING_LOAD_FORMATS else None,
        is_vllm=not starts_in_constructor(config.server_cls),
    )


def load(config: Any) -> tuple[list[HookRef], list[Hook]]:
    """Load a config's hooks; return the entries of ``hooks`` that this process sees, and all hooks that it sees.

    Raises:
        HookLoadError: they cannot be loaded.
        HookOrderError: an order that is impossible, or ambiguous.
    """
    here = [ref for ref in config.hooks or () if can_load(config, hooks_of_entries, [ref])]
    loaded = [*load_hooks(*here)]  # together: a circle between modules, parameters given for another entry's hook
    if can_load(config, config.callback_hooks):
        loaded = [*config.callback_hooks(), *loaded]
        check_together(loaded, config)
    return here, loaded


def can_load(config: Any, load: Callable[..., object], *args: Any) -> bool:
    """Return True if hooks can be loaded here; False if that is left to the replica, which may have more code."""
    try:
        load(*args)
    except HookLoadError as error:
        keys = {ModuleNotFoundError: _BRINGS_MODULES, FileNotFoundError: _BRINGS_FILES}.get(type(error.__cause__), ())
        if not any(_brings_something((config.runtime_env or {}).get(key)) for key in keys):
            raise
        logger.info("model %r: left to the replica, which may have what is shipped: %s", config.model_id, error)
        return False
    return True


def _brings_something(value: object) -> bool:
    """Return False for a value of a runtime_env that is empty, or holds nothing but what is."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, dict):
        return any(map(_brings_something, value.values()))
    return any(map(_brings_something, value)) if isinstance(value, list | tuple) else value is not None
