"""``plan_hooks``: which hooks a start would run, in which order, and which not and why. Nothing of them runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .._core.called import called, names_of
from .._core.points import left_out_by
from .replace_style import replaces_defaults
from .select import hooks_of_config, select

if TYPE_CHECKING:
    from .._core.hook import Hook
    from .._core.options import OnError
    from .._core.selection import Selection


@dataclass(frozen=True)
class HookPlan:
    """The hooks of a config, as a start of its model would choose them in this process.

    Attributes:
        model_id: the model.
        hooks: the hooks that would run, in the order in which they run. A veto may still leave some out.
        not_run: the other hooks that the config names, each with the reason, in words.
        on_error: what happens when a hook fails that does not say so itself.
    """

    model_id: str
    hooks: tuple[Hook, ...]
    not_run: tuple[tuple[Hook, str], ...]
    on_error: OnError

    def called(self, name: str) -> tuple[Hook, ...]:
        """Return the hooks that a name stands for: ``check``, ``Setup.on_before_init``, ``Setup``, or a path."""
        return tuple(called(name, self._all))

    @property
    def names(self) -> tuple[str, ...]:
        """The names that stand for its hooks."""
        return tuple(dict.fromkeys(name for hook in self._all for name in names_of(hook.path)))

    @property
    def _all(self) -> tuple[Hook, ...]:
        return (*self.hooks, *(hook for hook, _ in self.not_run))


def plan_hooks(llm_config: Any) -> HookPlan:
    """Return the hooks that a start of a config would run, without running any.

    Args:
        llm_config: an ``LLMConfig``, or a ``FakeLLMConfig`` where there is no Ray.

    Raises:
        HookLoadError: hooks that cannot be loaded; ``HookNotAllowedError``, a subclass.
        HookOrderError: an order that is impossible, or ambiguous.

    Example:
        >>> from serve_llm_hooks_testing import FakeLLMConfig
        >>> plan_hooks(FakeLLMConfig("llama-2-7b", hooks=[])).hooks
        ()
    """
    model_id = str(llm_config.model_id)
    found = hooks_of_config(llm_config)
    selection = select(found, model_id)
    not_run = [
        (hook, f"it is for other models: model_id={', '.join(map(repr, hook.options.model_ids))}")
        for hook in found
        if not hook.options.matches(model_id)
    ]
    not_run += [(hook, f"turned off by {why}") for each in selection.disabled.values() for hook, why in each]
    left_out = _left_out(selection)
    return HookPlan(
        model_id=model_id,
        hooks=tuple(hook for hook in selection.hooks if all(hook is not other for other, _ in left_out)),
        not_run=(*not_run, *left_out),
        on_error=error_policy(llm_config),
    )


def error_policy(llm_config: Any) -> OnError:
    """Return what happens when a hook of a config fails that does not say so itself."""
    callback = getattr(llm_config, "callback_config", None)
    if callback is not None and not callback.raise_error_on_callback:
        return "warn"
    chosen: OnError = getattr(llm_config, "on_error", "raise")
    return chosen


def _left_out(selection: Selection) -> list[tuple[Hook, str]]:
    """Return the hooks of which it is certain, before any veto, that their point is not reached."""
    before = selection.by_point["on_before_init"]
    if not before:
        why = "its point is reached only when the defaults are skipped, and no hook at on_before_init could skip them"
        return [(hook, why) for hook in selection.by_point["on_custom_init"]]
    for hook in before:
        if replaces_defaults(hook):
            why = f"initialization_class={hook.path} skips the defaults, and this point with them"
            left_out = [each for name in left_out_by("on_before_init") for each in selection.by_point[name]]
            # A phase callback is called at every phase, and has not chosen those that are left out.
            return [(each, why) for each in left_out if each.instance is None or each.method]
    return []
