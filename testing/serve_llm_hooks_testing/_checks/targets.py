"""Targets of a check: the hooks that were named for each of their models, or a config with its own."""

from __future__ import annotations

import copy
import re
import string
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HookRegistry, ServeLLMHooksError, load_hooks
from serve_llm_hooks._core.messages import one_line
from serve_llm_hooks._sources.select import hooks_of_config, hooks_of_script

from ..config import FakeLLMConfig
from ..errors import HarnessError
from ..serve_yaml import config_of, fields_of_yaml, is_yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from serve_llm_hooks._sources.entries import HookRef


@dataclass(frozen=True)
class Target:
    """A model, its hooks, and how to make its config.

    Attributes:
        model_id: the model.
        hooks: the hooks that the config has, those for other models included.
        make: makes the config, with more hooks.
        is_config: whether a config was given, and not hooks alone.
    """

    model_id: str
    hooks: HookRegistry
    make: Callable[[Sequence[Any]], Any]
    is_config: bool = False

    @property
    def own_hooks(self) -> HookRegistry:
        """Those that run for the model."""
        return self.hooks.for_model(self.model_id)


def is_config(ref: object) -> bool:
    """Return True for a config, a fake or a real one."""
    return hasattr(type(ref), "model_id") and hasattr(ref, "engine_kwargs")


def targets_of(
    refs: Sequence[Any], model_ids: Sequence[str] | None, tell: Callable[[str], object]
) -> tuple[list[Target], HookRegistry]:
    """Return what is checked, and all hooks that were named without a config.

    Args:
        refs: hooks, configs, paths of YAML files.
        model_ids: the models to check hooks for; ``None``: those that they name.
        tell: is called with what is wrong.
    """
    targets: list[Target] = []
    named: list[HookRef] = []
    for ref in refs:
        with _told(tell):
            if is_yaml(ref):
                for fields in fields_of_yaml(ref):
                    with _told(tell):
                        targets.append(_of_config(config_of(fields)))
            elif is_config(ref):
                targets.append(_of_config(ref))
            else:
                load_hooks(ref)  # each by itself, so that one that fails does not hide others
                named.append(ref)
    if targets and model_ids is not None:
        raise HarnessError("check_hooks(config) checks it for the config's model: leave model_id= out")
    hooks = HookRegistry()
    with _told(tell):
        hooks = load_hooks(*named)
    for model in (model_ids or models_of(hooks)) if len(hooks) else ():
        targets.append(_of_refs(model, named, hooks))
    return targets, hooks


@contextmanager
def _told(tell: Callable[[str], object]) -> Iterator[None]:
    """Tell what is wrong with a reference or a config, and go on."""
    try:
        yield
    except ServeLLMHooksError as error:
        tell(str(error))
    except (TypeError, ValueError) as error:
        tell(one_line(error))


def _of_refs(model_id: str, refs: Sequence[HookRef], hooks: HookRegistry) -> Target:
    # The references and not the hooks: what is named need not be sent to the replica.
    return Target(model_id, hooks, lambda more: FakeLLMConfig(model_id, hooks=[*refs, *more]))


def _of_config(config: Any) -> Target:
    if not hasattr(config, "hooks"):
        raise HarnessError(
            f"the config of model {str(config.model_id)!r} is of Ray's own class: give check_hooks one of "
            "serve_llm_hooks.ray.LLMConfig, with its hooks"
        )
    hooks = hooks_of_config(config)

    def make(more: Sequence[Any]) -> Any:
        own = copy.copy(config)
        own.hooks = [*(hooks_of_script(str(config.model_id)) if config.hooks is None else config.hooks), *more]
        own.placement_group_config = None  # the scenarios say which nodes there are
        return own

    return Target(str(config.model_id), hooks, make, is_config=True)


def models_of(hooks: HookRegistry) -> list[str]:
    """Return a model for each group of hooks that run together."""
    named = [model for hook in hooks for model in hook.options.model_ids]
    return list(dict.fromkeys(re.sub(r"\[(!?)(\]?[^]]*)\]|[*?]", _match, model) for model in named)) or ["test-model"]


def _match(wildcard: re.Match[str]) -> str:
    """Return a character that a glob's wildcard matches."""
    unlike, characters = wildcard.groups()
    if characters and not unlike:
        return str(characters[0])
    return next((char for char in f"x{string.ascii_letters}{string.digits}" if fnmatchcase(char, wildcard[0])), "x")
