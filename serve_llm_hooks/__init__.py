"""Hooks for node initialization in Ray Serve LLM.

>>> from serve_llm_hooks import hook
>>> @hook("on_before_download", model_id="llama-2-7b")
... def choose_files(ctx):
...     ctx.worker_node_download_model = "TOKENIZER_ONLY"

``serve_llm_hooks.ray`` is the part that needs Ray.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _lazy_imports
from ._core.hook import Hook as Hook
from ._core.registry import HookRegistry as HookRegistry, hook as hook, registry as registry

# Decorating needs only the names above; those below are imported on first use. This is the one list of them.
if TYPE_CHECKING:
    from ._core.context import CallbackCtx as CallbackCtx, NodeCtx as NodeCtx
    from ._core.download_mode import DownloadMode as DownloadMode
    from ._core.errors import (
        DownloadError as DownloadError,
        EngineAnswerError as EngineAnswerError,
        EngineArgumentError as EngineArgumentError,
        HookError as HookError,
        HookImportError as HookImportError,
        HookLoadError as HookLoadError,
        HookNotAllowedError as HookNotAllowedError,
        HookOrderError as HookOrderError,
        HookPickleError as HookPickleError,
        HookResultError as HookResultError,
        HookSignatureError as HookSignatureError,
        HookTimeoutError as HookTimeoutError,
        HookTraceError as HookTraceError,
        NodeInitializationError as NodeInitializationError,
        NodeLostError as NodeLostError,
        PlacementGroupError as PlacementGroupError,
        ServeLLMHooksError as ServeLLMHooksError,
        TraceFormatError as TraceFormatError,
        UnknownHookError as UnknownHookError,
    )
    from ._core.event import HookEvent as HookEvent, StartStep as StartStep
    from ._core.method_options import hook_options as hook_options
    from ._core.output import InitializeNodeOutput as InitializeNodeOutput
    from ._core.points import HOOK_POINTS as HOOK_POINTS, HookName as HookName, HookPoint as HookPoint
    from ._core.process_context import EngineProcessCtx as EngineProcessCtx
    from ._core.results import NodeResult as NodeResult
    from ._core.saved_trace import dump_traces as dump_traces, load_traces as load_traces
    from ._core.trace import Trace as Trace
    from ._core.veto import Skip as Skip, skip as skip
    from ._observe.advice import Advice as Advice, advise as advise
    from ._replica.ask import ask as ask
    from ._replica.cluster import Cluster as Cluster
    from ._sources.callback_runner import CallbackRunner as CallbackRunner
    from ._sources.class_style import RayServeLLMCallback as RayServeLLMCallback
    from ._sources.entries import load_hooks as load_hooks
    from ._sources.import_path import load_callback as load_callback
    from ._sources.phase_style import Callback as Callback
    from ._sources.plan import HookPlan as HookPlan, plan_hooks as plan_hooks
    from .entry import initialization as initialization, initialize_node as initialize_node
else:  # a checker that sees a __getattr__ takes every name for existing
    __getattr__, __dir__ = _lazy_imports.attach(__name__)

__version__ = "0.1.0"
