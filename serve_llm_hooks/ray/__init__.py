"""The side of ``serve_llm_hooks`` that knows Ray.

Everything is imported when it is first asked for: a node's task passes through this package too, and must not pay
for Ray Serve LLM, which imports vLLM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .app import build_dp_openai_app, build_openai_app, build_pd_openai_app
    from .callback import HooksCallback
    from .cluster import RayCluster
    from .config import LLMConfig
    from .server import LLMServer, hooked_server

__all__ = [
    "HooksCallback",
    "LLMConfig",
    "LLMServer",
    "RayCluster",
    "build_dp_openai_app",
    "build_openai_app",
    "build_pd_openai_app",
    "hooked_server",
]

_LAZY = {
    "HooksCallback": "callback",
    "LLMConfig": "config",
    "LLMServer": "server",
    "RayCluster": "cluster",
    "build_dp_openai_app": "app",
    "build_openai_app": "app",
    "build_pd_openai_app": "app",
    "hooked_server": "server",
}

if not TYPE_CHECKING:  # a checker that sees it takes every name for there

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        try:
            return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        except ImportError as error:
            from . import internals

            if error.name == internals.__name__:  # says it already
                raise
            raise internals.unsupported(f"{__name__}.{name}", error) from error
