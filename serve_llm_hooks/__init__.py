"""Hooks for node initialization in Ray Serve LLM.

>>> from serve_llm_hooks import hook
>>> @hook("on_before_download", model_id="llama-2-7b")
... def choose_files(ctx):
...     ctx.worker_node_download_model = "TOKENIZER_ONLY"

What a hooks module needs is imported here. What runs the hooks (it needs asyncio) is imported when first asked for.
``serve_llm_hooks.ray`` is the side that knows Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .context import CallbackCtx, DownloadMode, InitializeNodeOutput, NodeCtx, NodeResult, Skip, skip
from .errors import (
    DownloadError,
    EngineArgumentError,
    HookError,
    HookLoadError,
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
from .points import HOOK_POINTS, HookName, HookPoint
from .registry import Hook, HookRegistry, hook, registry
from .trace import HookEvent, Trace

if TYPE_CHECKING:
    from .callbacks import Callback, CallbackRunner, RayServeLLMCallback
    from .cluster import Cluster
    from .initialize import initialization, initialize_node
    from .loading import load_callback, load_hooks

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

_LAZY = {
    "Callback": "callbacks",
    "CallbackRunner": "callbacks",
    "Cluster": "cluster",
    "RayServeLLMCallback": "callbacks",
    "initialization": "initialize",
    "initialize_node": "initialize",
    "load_callback": "loading",
    "load_hooks": "loading",
}

if not TYPE_CHECKING:  # a checker that sees it takes every name for there

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
