"""Hooks for node initialization in Ray Serve LLM.

>>> from serve_llm_hooks import hook
>>> @hook("on_before_download", model_id="llama-2-7b")
... def choose_files(ctx):
...     ctx.worker_node_download_model = "TOKENIZER_ONLY"

Decorating is all that is imported at once; the rest is imported when it is first asked for.
``serve_llm_hooks.ray`` is the side that knows Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# Eager, because the object `registry` must win over the module of that name; it is all that decorating needs.
from .registry import Hook, HookRegistry, hook, registry

if TYPE_CHECKING:
    from .callbacks import Callback, CallbackRunner, RayServeLLMCallback
    from .cluster import Cluster
    from .context import CallbackCtx, DownloadMode, InitializeNodeOutput, NodeCtx, NodeResult, Skip, skip
    from .errors import (
        DownloadError,
        EngineArgumentError,
        HookError,
        HookLoadError,
        HookNotAllowedError,
        HookOrderError,
        HookPickleError,
        HookResultError,
        HookSignatureError,
        HookTimeoutError,
        NodeInitializationError,
        NodeLostError,
        PlacementGroupError,
        ServeLLMHooksError,
        UnknownHookError,
    )
    from .initialize import initialization, initialize_node
    from .loading import load_callback, load_hooks
    from .points import HOOK_POINTS, HookName, HookPoint
    from .trace import HookEvent, Trace

__all__ = [
    "HOOK_POINTS",
    "Callback",
    "CallbackCtx",
    "CallbackRunner",
    "Cluster",
    "DownloadError",
    "DownloadMode",
    "EngineArgumentError",
    "Hook",
    "HookError",
    "HookEvent",
    "HookLoadError",
    "HookName",
    "HookNotAllowedError",
    "HookOrderError",
    "HookPickleError",
    "HookPoint",
    "HookRegistry",
    "HookResultError",
    "HookSignatureError",
    "HookTimeoutError",
    "InitializeNodeOutput",
    "NodeCtx",
    "NodeInitializationError",
    "NodeLostError",
    "NodeResult",
    "PlacementGroupError",
    "RayServeLLMCallback",
    "ServeLLMHooksError",
    "Skip",
    "Trace",
    "UnknownHookError",
    "hook",
    "initialization",
    "initialize_node",
    "load_callback",
    "load_hooks",
    "registry",
    "skip",
]

__version__ = "0.1.0"

# Where the rest is, imported when it is first asked for: the same lines as above.
_WHERE = {
    "callbacks": "Callback CallbackRunner RayServeLLMCallback",
    "cluster": "Cluster",
    "context": "CallbackCtx DownloadMode InitializeNodeOutput NodeCtx NodeResult Skip skip",
    "errors": "DownloadError EngineArgumentError HookError HookLoadError HookNotAllowedError HookOrderError "
    "HookPickleError HookResultError HookSignatureError HookTimeoutError NodeInitializationError NodeLostError "
    "PlacementGroupError ServeLLMHooksError UnknownHookError",
    "initialize": "initialization initialize_node",
    "loading": "load_callback load_hooks",
    "points": "HOOK_POINTS HookName HookPoint",
    "trace": "HookEvent Trace",
}
_LAZY = {name: module for module, names in _WHERE.items() for name in names.split()}

if not TYPE_CHECKING:  # pragma: no branch  # a checker that sees it takes every name for there

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = globals()[name] = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        return value
