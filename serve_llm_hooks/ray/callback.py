"""What Ray's engine reads, and the entrance for deployments that keep Ray's own ``LLMConfig``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import HookLoadError
from ..initialize import initialization
from ..loading import HookRef, load_hooks, select_hooks
from .cluster import RayCluster
from .internals import CallbackBase, CallbackCtx, NodeModelDownloadable
from .log import show_log

if TYPE_CHECKING:
    from ..context import CallbackCtx as HooksCtx
    from ..points import HookName
    from ..registry import HookRegistry

__all__ = ["HandedOver", "HooksCallback", "hand_over"]

# Ray calls a callback before its engine starts, and never again.
_OUT_OF_REACH: tuple[HookName, ...] = ("on_after_engine_init", "on_after_init")


class HandedOver(CallbackBase):
    """Tells Ray's engine what hooks decided, and that the nodes are initialized already.

    Its ``ctx`` is Ray's own, with Ray's values, and its pickled state is nothing else: for GPU engines Ray sends its
    config, with this on it, to another process.
    """

    def take(self, ctx: HooksCtx) -> None:
        """Take over what hooks decided."""
        self.ctx: CallbackCtx = CallbackCtx(
            worker_node_download_model=NodeModelDownloadable[ctx.worker_node_download_model.name],
            placement_group=ctx.placement_group,
            runtime_env=ctx.runtime_env,
            run_init_node=False,
        )

    def _handle_callback_error(self, method_name: str, e: Exception) -> None:
        raise e  # ours say what, where and what to do; Ray's wrapping would hide their type

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (self.ctx,))


def _rebuild(ctx: CallbackCtx) -> HandedOver:
    callback = HandedOver(llm_config=None)
    callback.ctx = ctx
    return callback


def hand_over(llm_config: Any, ctx: HooksCtx) -> None:
    """Make Ray's engine, which asks its config for the callback, find ours there."""
    callback = HandedOver(llm_config=llm_config)
    callback.take(ctx)
    llm_config._callback_instance = callback


class HooksCallback(HandedOver):
    """Hooks for deployments that keep Ray's own ``LLMConfig`` and builders.

    Name it in ``callback_config``, in Python or in YAML::

        callback_config:
          callback_class: serve_llm_hooks.ray.HooksCallback
          callback_kwargs:
            hooks: [my_company.llm_hooks]

    Ray gives it no moment after the engine's start. Hooks at the points after it are refused; for them use
    ``serve_llm_hooks.ray.LLMConfig``, or ``serve_llm_hooks.ray:build_openai_app`` in YAML.

    Raises:
        HookLoadError: hooks that cannot be loaded, or that Ray never reaches this way.
    """

    def __init__(self, *, hooks: list[HookRef] | None = None, llm_config: Any, **kwargs: Any) -> None:
        super().__init__(llm_config=llm_config, **kwargs)
        selected = select_hooks(llm_config) if hooks is None else load_hooks(*hooks)
        self._hooks: HookRegistry = selected.for_model(llm_config.model_id)
        lost = [hook for point in _OUT_OF_REACH for hook in self._hooks.hooks(point)]
        if lost:
            raise HookLoadError(
                f"{lost[0].ref} at {lost[0].point} can never run: Ray's callback_config has no step after the engine's "
                "start. Use `from serve_llm_hooks.ray import LLMConfig` with hooks=[...], or in YAML "
                "`import_path: serve_llm_hooks.ray:build_openai_app`."
            )

    async def on_before_node_init(self) -> None:
        """Run all hooks up to the engine's start, instead of Ray's node initialization."""
        show_log()
        async with initialization(self.llm_config, cluster=RayCluster(), hooks=self._hooks) as run:
            self.take(run.ctx)


def names_hooks_callback(callback_class: Any) -> bool:
    """Whether a ``callback_config``'s class is :class:`HooksCallback`, or its path."""
    if isinstance(callback_class, str):
        return callback_class.replace(":", ".") in (
            "serve_llm_hooks.ray.HooksCallback",
            "serve_llm_hooks.ray.callback.HooksCallback",
        )
    return callback_class is HooksCallback


def native_hooks(llm_config: Any) -> HookRegistry | None:
    """The hooks of a config of Ray's own that names :class:`HooksCallback`; ``None`` for one that names no callback.

    Raises:
        HookLoadError: the config names another callback, which a hooked server would silently not call.
    """
    chosen = llm_config.callback_config
    if names_hooks_callback(chosen.callback_class):
        hooks = chosen.callback_kwargs.get("hooks")
        return select_hooks(llm_config) if hooks is None else load_hooks(*hooks)
    if chosen.callback_class is not CallbackBase:
        raise HookLoadError(
            f"callback_config of model {llm_config.model_id!r} names {chosen.callback_class!r}, and this server runs "
            "hooks instead of Ray's callbacks: write what it does as hooks, or take hooked_server away"
        )
    return None
