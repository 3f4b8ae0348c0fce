"""``initialization_class``: a class that replaces the whole initialization. Deprecated; kept for old code."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

from .._core.errors import HookLoadError, HookSignatureError
from .._core.hook import Hook
from .._core.messages import without_value
from .._core.options import HookOptions
from .._core.origin import path_of
from .._core.signature import bound_method, check_runs, misfit, written
from .._core.veto import InvalidResult, Skip
from .class_style import instance_of

if TYPE_CHECKING:
    from .._core.context import CallbackCtx
    from .._core.lazy_instance import LazyInstance


def hooks_of_initialization_class(initialization_class: Any, kwargs: Mapping[str, Any] | None = None) -> list[Hook]:
    """Return the two hooks of such a class: a veto of the defaults, and ``on_custom_init``.

    Args:
        initialization_class: a class with ``async initialize(llm_config)``, whose result has ``placement_group``,
            ``runtime_env`` and ``extra_init_kwargs``.
        kwargs: the arguments of the class.

    Raises:
        HookLoadError: not such a class. HookSignatureError: arguments that do not fit it.
    """
    path = path_of(initialization_class)
    if not callable(getattr(initialization_class, "initialize", None)):
        raise HookLoadError(
            f"initialization_class {path} has no method `async def initialize(self, llm_config)`; new code uses "
            'callback=... with on_custom_init, or @hook("on_custom_init")'
        )
    method = bound_method(initialization_class, "initialize")
    check_runs(method, f"initialization_class {path}.initialize", "a class with methods `on_...` (callback=...)")
    found = misfit(method, None)
    if found is not None:
        signature, why = found
        raise HookSignatureError(
            f"initialization_class {path}.initialize{written(signature)} does not fit ({why}); it is "
            "`async def initialize(self, llm_config)`"
        )
    instance = instance_of(initialization_class, kwargs or {}, option="initialization_kwargs")
    return [
        Hook(_skip_defaults, HookOptions("on_before_init"), instance=instance),
        Hook(_initialize, HookOptions("on_custom_init"), instance=instance, method="initialize"),
    ]


def replaces_defaults(hook: Hook) -> bool:
    """Return True if a hook is the veto of an ``initialization_class``, which is certain before it runs."""
    return hook.fn is _skip_defaults


def _skip_defaults(instance: LazyInstance, ctx: CallbackCtx) -> Skip:
    return Skip(f"{instance.path.partition(':')[2]} replaces the initialization")


async def _initialize(instance: LazyInstance, ctx: CallbackCtx) -> InvalidResult | None:
    output = instance.get().initialize(ctx.llm_config)
    if isinstance(output, Awaitable):
        output = await output
    for name in ("placement_group", "runtime_env", "extra_init_kwargs"):
        if not hasattr(output, name):
            return InvalidResult(
                f"it returned {without_value(output)}, which has no {name}; initialize() returns an "
                "InitializeNodeOutput"
            )
    if output.placement_group is not None:
        ctx.placement_group = output.placement_group
    if output.runtime_env is not None:
        ctx.runtime_env = output.runtime_env
    ctx.extra_init_kwargs = {**ctx.extra_init_kwargs, **(output.extra_init_kwargs or {})}
    return None
