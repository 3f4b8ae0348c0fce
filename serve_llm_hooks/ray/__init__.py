"""Hooks on Ray Serve LLM: a config, servers, builders, and a callback for configs of Ray's own.

Every name is imported on first use: a node's task passes through this package too, and must not pay for Ray Serve
LLM, which imports vLLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import _lazy_imports

if TYPE_CHECKING:
    from .app import (
        build_dp_openai_app as build_dp_openai_app,
        build_openai_app as build_openai_app,
        build_pd_openai_app as build_pd_openai_app,
    )
    from .cluster import RayCluster as RayCluster
    from .config import LLMConfig as LLMConfig
    from .engine_check import check_engine_args as check_engine_args
    from .hooked import hooked_server as hooked_server
    from .hooks_callback import HooksCallback as HooksCallback
    from .running import hook_trace as hook_trace
    from .server import LLMServer as LLMServer
else:  # a checker that sees a __getattr__ takes every name for existing
    _get, __dir__ = _lazy_imports.attach(__name__)

    def __getattr__(name: str) -> Any:
        try:
            return _get(name)
        except ImportError as error:
            from . import internals

            if error.name == internals.__name__:  # its message says it already
                raise
            raise internals.unsupported(f"{__name__}.{name}", error) from error
