"""From a config to the hooks of a start: read all of its fields, check them together, sort and turn off."""

from __future__ import annotations

import logging
from fnmatch import fnmatchcase
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .._core.hook import Hook, numbered, with_fresh_instances
from .._core.messages import did_you_mean
from .._core.options import start_of
from .._core.points import HOOK_NAMES
from .._core.registry import HookRegistry, registry
from .._core.selection import Selection
from .allow import check_hooks
from .config_checks import ask_classes
from .disable import DISABLE, DisableList, suggestions
from .entries import hooks_of_entries, load_hooks, targets_of
from .namespace import standing

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._core.points import HookName


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

UNMATCHED = "hooks_unmatched_by"  # an attribute of the record of such a warning: the model, for who filters the log

_WARNED: set[tuple[str, str]] = set()


def hooks_of_config(llm_config: Any) -> HookRegistry:
    """Return all hooks of a config, those for other models that it names included: they travel with it too.

    A config with a ``hooks`` field decides: those it names; those of the running script when it is ``None``. A
    config without one (Ray's own) takes all that are registered for its model in this process.

    Raises:
        HookLoadError: as :func:`serve_llm_hooks.load_hooks`, and :func:`check_together`.
        HookOrderError: as :func:`check_together`.
    """
    model_id = str(llm_config.model_id)
    if not hasattr(llm_config, "hooks"):
        found = HookRegistry(standing(registry.for_model(model_id)))
    else:
        if llm_config.hooks is None:
            # A config that has left its process carries what the script there had decorated for the model.
            travelled = getattr(llm_config, "_script_hooks", None)
            named = HookRegistry(hooks_of_script(model_id) if travelled is None else travelled).for_model(model_id)
        else:
            named = load_hooks(*llm_config.hooks)
            warn_of_unmatched(llm_config.hooks, model_id, again=False)
        # The other styles come first, in the order of the fields.
        others = llm_config.callback_hooks() if hasattr(llm_config, "callback_hooks") else ()
        found = HookRegistry(with_fresh_instances([*others, *named]))
    check_hooks(found)  # those that arrived in the config as objects, with its pickle
    check_together(found, llm_config)
    return found


def hooks_of_script(model_id: str, module: str = "__main__") -> list[Hook]:
    """Return the hooks for a model that the running script itself decorated."""
    found = standing(hook for hook in registry if hook.path.startswith(f"{module}:"))
    matching = [hook for hook in found if hook.options.matches(model_id)]
    if not matching:  # a script may have hooks for other models only
        _tell_unmatched([hook for hook in found if _near_miss(hook.options.model_ids, model_id)], model_id, again=False)
    return matching


def warn_of_unmatched(refs: Iterable[object], model_id: str, *, again: bool = True) -> None:
    """Warn of hooks that a config names, and that do not run since they are for other models.

    A module may hold hooks for many models, as long as one that is named is for this one, and none of its ids looks
    like a slip for this one. Of functions that are named singly, each should be.

    Args:
        refs: the entries of ``hooks=[...]``.
        model_id: the config's model.
        again: warn also of what this process has been told before.
    """
    entries = [(targets_of(ref), hooks_of_entries([ref])) for ref in refs]
    none = not any(hook.options.matches(model_id) for _, hooks in entries for hook in hooks)
    idle: list[Hook] = []
    for targets, hooks in entries:
        unmatched = [hook for hook in hooks if not hook.options.matches(model_id)]
        if not none and any(isinstance(target, ModuleType | HookRegistry) for target in targets):
            all_idle = len(unmatched) == len(hooks)
            unmatched = [hook for hook in unmatched if all_idle and _is_slip(hook.options.model_ids, model_id)]
        idle += unmatched
    _tell_unmatched(idle, model_id, again=again)


def _tell_unmatched(idle: Iterable[Hook], model_id: str, *, again: bool) -> None:
    told = {
        (
            hook.path,
            hook.options.model_ids,
        ): f"{hook.path} at {hook.point} (model_id={', '.join(map(repr, hook.options.model_ids))}"
        f"{_near_miss(hook.options.model_ids, model_id)})"
        for hook in idle
    }
    names = ", ".join(told.values())
    if told and (again or (model_id, names) not in _WARNED):
        _WARNED.add((model_id, names))
        logger.warning(
            "model %r: named for it, but not run, since they are for other models: %s. In @hook, write the model's id, "
            "a pattern for it, or no model_id",
            model_id,
            names,
            extra={UNMATCHED: model_id},
        )


def _near_miss(patterns: Iterable[str], model_id: str) -> str:
    """Return a suggestion where one of a hook's model ids nearly matches a config's, or an empty string."""
    for pattern in patterns:
        if fnmatchcase(model_id.casefold(), pattern.casefold()):
            return f", which differs from {model_id!r} in upper and lower case"
        start = start_of(pattern)
        begins = model_id if start == pattern else model_id[: len(start)]
        if start and did_you_mean(start, [begins]):
            return f"; did you mean {model_id!r}?"
    return ""


def _is_slip(patterns: Iterable[str], model_id: str) -> bool:
    """Return True if one of a module's model ids is this one, mistyped, and not that of another size or version."""
    import re
    from difflib import SequenceMatcher

    for pattern in (each.casefold() for each in patterns):
        if fnmatchcase(model_id.casefold(), pattern):
            return True
        start = start_of(pattern)
        begins = (model_id if start == pattern else model_id[: len(start)]).casefold()
        same_numbers = re.findall(r"\d+", start) == re.findall(r"\d+", begins)
        enough = 0.75 if start.endswith("/") else 0.85  # more alike than a model and its -Instruct
        if start and same_numbers and SequenceMatcher(None, start, begins).ratio() > enough:
            return True
    return False


def check_together(hooks: Iterable[Hook], llm_config: Any) -> None:
    """Check that the hooks of all fields of a config can run together for its model.

    Raises:
        HookSignatureError: parameters are missing (what a script decorated has come through no ``load_hooks``).
        HookOrderError: an order that is impossible, or ambiguous.
        HookLoadError: a class of hooks refuses the config.
    """
    together = HookRegistry(hooks).for_model(str(llm_config.model_id))
    for hook in together:
        hook.check_kwargs()
    together.hooks()
    ask_classes(together, llm_config)


def select(hooks: HookRegistry, model_id: str) -> Selection:
    """Return the hooks of one start, sorted, without those that the environment turns off.

    Raises:
        HookOrderError: an order that is impossible, or ambiguous.
    """
    disable = DisableList()  # read once: one start has one answer, in the replica and on its nodes
    by_point: dict[HookName, list[Hook]] = {name: [] for name in HOOK_NAMES}
    disabled: dict[HookName, list[tuple[Hook, str]]] = {name: [] for name in HOOK_NAMES}
    for hook in HookRegistry(numbered(hooks.for_model(model_id))).hooks():
        entry = disable.entry_for(hook)
        if entry is None:
            by_point[hook.point].append(hook)
        else:
            disabled[hook.point].append((hook, f"{entry!r} in {DISABLE}"))
    running = (hook for found in by_point.values() for hook in found) if disable.unused else ()
    names = [name for hook in running for name in suggestions(hook)]
    return Selection(
        by_point={name: tuple(found) for name, found in by_point.items()},
        disabled={name: tuple(found) for name, found in disabled.items()},
        sources=tuple(sorted({hook.source for hook in hooks})),
        disable_variable=disable.value,
        unmatched=tuple((entry, did_you_mean(entry, names)) for entry in disable.unused),
    )
