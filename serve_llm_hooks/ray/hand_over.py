"""Hand over to Ray's engine what hooks decided: Ray asks its config for a callback, and finds this one."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from . import internals
from .internals import CallbackBase, CallbackCtx, NodeModelDownloadable

if TYPE_CHECKING:
    from .._core.context import CallbackCtx as HooksCtx


internals.warn_if_untested()  # here, because every replica that runs hooks imports this module, and no node does


class HandedOver(CallbackBase):
    """A callback that tells Ray's engine what hooks decided, and that the nodes are initialized already.

    Its ``ctx`` is Ray's own, with Ray's values. It is pickled with the hooks of the engine's processes, and nothing
    else: for GPU engines Ray sends its config, with this on it, to a process that builds the engine's config.

    Attributes:
        is_decided: ``True`` once it holds what hooks decided; from then on the config needs no hooks where it is
            unpickled.
    """

    is_decided: bool = False

    def decide(self, ctx: HooksCtx, runtime_env: dict[str, Any] | None) -> None:
        """Copy what hooks decided into Ray's context, and the runtime environment for the engine."""
        self.ctx: CallbackCtx = CallbackCtx(
            worker_node_download_model=NodeModelDownloadable[ctx.worker_node_download_model.name],
            placement_group=ctx.placement_group,
            runtime_env=runtime_env,
            run_init_node=False,
        )
        self.is_decided = True

    @override
    def _handle_callback_error(self, method_name: str, e: Exception) -> None:
        raise e  # our errors say what, where and what to do; Ray's wrapper would hide their type

    @override
    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle Ray's context, and the hooks for the process that builds the engine's config."""
        from .engine_channel import VARIABLE

        return (_rebuild, (self.ctx, os.environ.get(VARIABLE, "")))


def _rebuild(ctx: CallbackCtx, hooks_of_processes: str = "") -> HandedOver:
    from . import engine_process

    engine_process.arrive(hooks_of_processes)
    callback = HandedOver(llm_config=None)
    callback.ctx = ctx
    callback.is_decided = True
    return callback


def hand_over(llm_config: Any, ctx: HooksCtx, runtime_env: dict[str, Any] | None) -> None:
    """Put what hooks decided where Ray's engine looks for it: its config's callback.

    Args:
        llm_config: the deployment's config.
        ctx: the decisions.
        runtime_env: the engine's runtime environment: that of ``ctx``, or one that comes out equal.
    """
    callback = HandedOver(llm_config=llm_config)
    callback.decide(ctx, runtime_env)
    llm_config._callback_instance = callback
    remove_given_hooks(llm_config)


def remove_given_hooks(llm_config: Any) -> None:
    """Remove hooks that were given as objects from a config of Ray's own.

    Ray's engine sends the config on to tasks that run no hook, and such an object may by now hold what cannot be
    pickled.
    """
    if hasattr(llm_config, "hooks"):
        return
    from .native_config import is_hooks_callback  # which a config of ours may not need

    chosen = llm_config.callback_config
    if is_hooks_callback(chosen.callback_class):
        llm_config.callback_config = replace(chosen, callback_kwargs={"hooks": []})
