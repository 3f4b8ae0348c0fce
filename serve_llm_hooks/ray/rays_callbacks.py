"""Callbacks that were written for Ray (subclasses of its ``CallbackBase``), as hooks."""

from __future__ import annotations

from collections.abc import Awaitable
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.context import NodeCtx
from .._core.errors import HookLoadError
from .._core.hook import Hook
from .._core.lazy_instance import LazyInstance
from .._core.messages import describe
from .._core.options import HookOptions
from .._core.origin import path_of
from .._core.signature import check_runs
from .._sources.import_path import load_callback
from .internals import CallbackBase, CallbackCtx, NodeModelDownloadable

if TYPE_CHECKING:
    from .._core.options import OnError
    from .._core.points import HookName


# Each method of Ray's, and the hook point at the moment when Ray calls it.
_POINTS: dict[str, HookName] = {
    "on_before_node_init": "on_before_init",
    "on_before_download_model_files_distributed": "on_before_node_download",
    "on_after_node_init": "on_after_placement_group",
}


def hooks_of_rays_callback(callback_config: Any) -> list[Hook]:
    """Return the hooks of a ``CallbackBase`` subclass in ``callback_config``: one for each method it overrides.

    Raises:
        ValueError, ImportError, AttributeError, TypeError: as :func:`serve_llm_hooks.load_callback`.
        HookLoadError: not a subclass of Ray's ``CallbackBase``, or a ``HooksCallback``.
    """
    if callback_config.callback_class is CallbackBase:
        return []  # Ray's default, which does nothing
    cls = load_callback(callback_config.callback_class)
    if not (isinstance(cls, type) and issubclass(cls, CallbackBase)):
        raise HookLoadError(
            f"callback_config names {describe(cls)}, which is no subclass of Ray's CallbackBase; a class of yours goes "
            "into callback=..."
        )
    if cls is CallbackBase:
        return []  # the default, by its path
    if hasattr(cls, "is_decided"):  # ours, or derived from it
        raise HookLoadError(
            f"callback_config names {cls.__module__}.{cls.__qualname__}, which is a HooksCallback: it would run an "
            "initialization of its own inside this one. Name its hooks in hooks=[...] of serve_llm_hooks.ray.LLMConfig "
            "instead, or write callback_class: serve_llm_hooks.ray.HooksCallback."
        )
    raises = callback_config.raise_error_on_callback
    instance = _RaysInstance(cls, {"raise_error_on_callback": raises, **callback_config.callback_kwargs})
    # The first method in any case: Ray makes the object in the replica, and sends it from there to the nodes.
    names = [
        name
        for name in _POINTS
        if name == "on_before_node_init" or getattr(cls, name) is not getattr(CallbackBase, name)
    ]
    for name in names:
        check_runs(getattr(cls, name), f"{path_of(cls)}.{name} in callback_config", "a later method")
    on_error: OnError = "raise" if raises else "warn"
    return [
        Hook(partial(_call_method, name), HookOptions(_POINTS[name], on_error=on_error), instance=instance, method=name)
        for name in names
    ]


class _RaysInstance(LazyInstance):
    """Hold a callback of Ray's. As with Ray, the object itself travels to a node, with its attributes."""

    def get_for(self, ctx: Any) -> Any:
        """Return the object; create it with Ray's values of ``ctx`` if this is the first use."""
        if self.made is None and self.cls is not None:
            self.made = self.cls(llm_config=ctx.llm_config, ctx_kwargs=_rays_values(ctx), **self.kwargs)
            _copy_back(self.made.ctx, ctx)  # its constructor may have changed something
        return self.made

    def __reduce__(self) -> tuple[Any, ...]:
        return (_RaysInstance, (self.cls, self.kwargs, self.made, self.key))


def _call_method(name: str, instance: _RaysInstance, ctx: Any) -> Any:
    """Call a method of Ray's, with our context copied into Ray's before and back after it."""
    callback = instance.get_for(ctx)
    for field, value in _rays_values(ctx).items():
        setattr(callback.ctx, field, value)
    done: object = None
    try:
        done = getattr(callback, name)()
    finally:  # also after a failure: as in Ray, the next method finds what this one changed
        if not isinstance(done, Awaitable):
            _copy_back(callback.ctx, ctx)
    return _when_done(done, callback, ctx) if isinstance(done, Awaitable) else None


async def _when_done(done: Awaitable[object], callback: Any, ctx: Any) -> None:
    try:
        await done
    finally:
        _copy_back(callback.ctx, ctx)


def _rays_values(ctx: Any) -> dict[str, Any]:
    """Return our context as the fields of Ray's, as far as Ray has them."""
    mode = ctx.download_model if isinstance(ctx, NodeCtx) else ctx.worker_node_download_model
    values = {"worker_node_download_model": NodeModelDownloadable[mode.name], "custom_data": ctx.custom_data}
    if not isinstance(ctx, NodeCtx):
        for name in ("placement_group", "runtime_env", "run_init_node"):
            values[name] = getattr(ctx, name)
    return values


def _copy_back(theirs: CallbackCtx, ctx: Any) -> None:
    """Copy Ray's context into ours."""
    if isinstance(ctx, NodeCtx):
        ctx.download_model = theirs.worker_node_download_model
        ctx.custom_data = theirs.custom_data
        return
    for name in ("worker_node_download_model", "placement_group", "runtime_env", "custom_data", "run_init_node"):
        setattr(ctx, name, getattr(theirs, name))
