"""The hooks of a config of Ray's own, which names them in ``callback_config``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._core.errors import HookLoadError
from .._core.messages import did_you_mean, path_or_type
from .._core.origin import path_of
from .._core.registry import HookRegistry
from .._sources.entries import load_hooks
from .._sources.select import check_together, hooks_of_config, warn_of_unmatched
from .rays_callbacks import hooks_of_rays_callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._sources.entries import HookRef


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

_HOOKS_CALLBACK = "serve_llm_hooks.ray.HooksCallback"


def is_hooks_callback(callback_class: Any) -> bool:
    """Return True if a ``callback_config``'s class is ``serve_llm_hooks.ray.HooksCallback``, or its path."""
    path = callback_class if isinstance(callback_class, str) else path_of(callback_class)
    return path.replace(":", ".") == _HOOKS_CALLBACK


def hooks_of_native_config(llm_config: Any) -> HookRegistry | None:
    """Return the hooks that a config of Ray's own names; ``None`` for a config of ours, whose fields decide.

    Raises:
        HookLoadError: hooks that cannot be loaded.
    """
    if hasattr(llm_config, "hooks"):
        return None
    chosen = llm_config.callback_config
    if is_hooks_callback(chosen.callback_class):
        return hooks_of_callback_kwargs(llm_config, chosen.callback_kwargs)
    mine = hooks_of_config(llm_config).for_model(str(llm_config.model_id))
    found = HookRegistry([*hooks_of_rays_callback(chosen), *mine])
    if not len(found):
        logger.warning(
            "model %r: no hook will run: its config, which is Ray's, names none, and none is registered for it in the "
            "replica. Make it with `from serve_llm_hooks.ray import LLMConfig`, with hooks=['my_company.llm_hooks'], "
            "or with hooks=[] for none.",
            llm_config.model_id,
        )
    return found


def hooks_of_callback_kwargs(llm_config: Any, callback_kwargs: Mapping[str, Any]) -> HookRegistry:
    """Return the hooks that the ``callback_kwargs`` of ``HooksCallback`` name; where they name none, the config's.

    Raises:
        HookLoadError: they cannot be loaded; or none is named, and none is registered here.
    """
    hooks = named_hooks(callback_kwargs)
    if hooks is not None:
        found = load_hooks(*hooks)
        check_together(found, llm_config)
        warn_of_unmatched(hooks, str(llm_config.model_id))
        return found
    found = hooks_of_config(llm_config)
    if not len(found) and not hasattr(llm_config, "hooks"):
        none = "none is registered for the model in this process, which has imported no module of yours"
        raise no_hooks_named(llm_config.model_id, none)
    return found


def named_hooks(callback_kwargs: Mapping[str, Any]) -> list[HookRef] | None:
    """Return the entries in the ``callback_kwargs`` of ``HooksCallback``; ``None`` if ``hooks`` is left out.

    Raises:
        HookLoadError: another key is in there. Ray would accept it, and the hooks would be silently absent.
    """
    for key in callback_kwargs:
        if key != "hooks":
            raise HookLoadError(
                f"callback_kwargs of HooksCallback has the key 'hooks' and no other, so not {key!r}"
                f"{did_you_mean(key, ['hooks'])}"
            )
    hooks = callback_kwargs.get("hooks")
    if hooks is not None and not isinstance(hooks, list | tuple):
        raise HookLoadError(
            "hooks in callback_kwargs of HooksCallback is a list, as in hooks: [my_company.llm_hooks], not "
            f"{path_or_type(hooks)}"
        )
    return None if hooks is None else list(hooks)


def no_hooks_named(model_id: object, none: str) -> HookLoadError:
    """Return the error for ``HooksCallback`` without hooks; ``none`` says why none can be meant."""
    return HookLoadError(
        f"model {str(model_id)!r}: HooksCallback in callback_config is given no hooks, and {none}. Write "
        "callback_kwargs: {hooks: [my_company.llm_hooks]}, or {hooks: []} for none."
    )
