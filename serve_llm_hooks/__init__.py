"""Hooks for node initialization in Ray Serve LLM.

>>> from serve_llm_hooks import hook
>>> @hook("on_before_download", model_id="llama-2-7b")
... def choose_files(ctx):
...     ctx.worker_node_download_model = "TOKENIZER_ONLY"

``serve_llm_hooks.ray`` is the part that needs Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _lazy
from ._core.hook import Hook as Hook
from ._core.registry import HookRegistry as HookRegistry
from ._core.registry import hook as hook
from ._core.registry import registry as registry

# Decorating needs only the names above; those below are imported on first use. This is the one list of them.
if TYPE_CHECKING:
    from ._core.context import CallbackCtx as CallbackCtx
    from ._core.context import NodeCtx as NodeCtx
    from ._core.download_mode import DownloadMode as DownloadMode
    from ._core.errors import DownloadError as DownloadError
    from ._core.errors import EngineArgumentError as EngineArgumentError
    from ._core.errors import HookError as HookError
    from ._core.errors import HookImportError as HookImportError
    from ._core.errors import HookLoadError as HookLoadError
    from ._core.errors import HookNotAllowedError as HookNotAllowedError
    from ._core.errors import HookOrderError as HookOrderError
    from ._core.errors import HookPickleError as HookPickleError
    from ._core.errors import HookResultError as HookResultError
    from ._core.errors import HookSignatureError as HookSignatureError
    from ._core.errors import HookTimeoutError as HookTimeoutError
    from ._core.errors import NodeInitializationError as NodeInitializationError
    from ._core.errors import NodeLostError as NodeLostError
    from ._core.errors import PlacementGroupError as PlacementGroupError
    from ._core.errors import ServeLLMHooksError as ServeLLMHooksError
    from ._core.errors import UnknownHookError as UnknownHookError
    from ._core.points import HOOK_POINTS as HOOK_POINTS
    from ._core.points import HookName as HookName
    from ._core.points import HookPoint as HookPoint
    from ._core.results import InitializeNodeOutput as InitializeNodeOutput
    from ._core.results import NodeResult as NodeResult
    from ._core.trace import HookEvent as HookEvent
    from ._core.trace import Trace as Trace
    from ._core.veto import Skip as Skip
    from ._core.veto import skip as skip
    from ._replica.cluster import Cluster as Cluster
    from ._sources.callback_runner import CallbackRunner as CallbackRunner
    from ._sources.class_style import RayServeLLMCallback as RayServeLLMCallback
    from ._sources.entries import load_hooks as load_hooks
    from ._sources.paths import load_callback as load_callback
    from ._sources.phase_style import Callback as Callback
    from .entry import initialization as initialization
    from .entry import initialize_node as initialize_node
else:  # a checker that sees a __getattr__ takes every name for existing
    __getattr__, __dir__ = _lazy.attach(__name__)

__version__ = "0.1.0"
