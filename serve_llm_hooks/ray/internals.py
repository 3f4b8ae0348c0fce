"""The only imports from ``ray.llm._internal``. Supported: Ray 2.58 to 2.60.

Each name is imported on first use, because the costs differ by ten seconds: the download code imports torch, the
engine's config imports vLLM. A test checks all names on each supported version of Ray.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.llm._internal.common.callbacks.base import CallbackBase, CallbackConfig, CallbackCtx
    from ray.llm._internal.common.utils.cloud_utils import CloudMirrorConfig, is_remote_path
    from ray.llm._internal.common.utils.download_utils import (
        STREAMING_LOAD_FORMATS,
        NodeModelDownloadable,
        download_model_files,
    )
    from ray.llm._internal.serve.constants import ENGINE_START_TIMEOUT_S, ENV_VARS_TO_PROPAGATE
    from ray.llm._internal.serve.core.server.llm_server import LLMServer
    from ray.llm._internal.serve.engines.vllm.vllm_models import AsyncEngineArgs, FrontendArgs

__all__ = [
    "ENGINE_START_TIMEOUT_S",
    "ENV_VARS_TO_PROPAGATE",
    "STREAMING_LOAD_FORMATS",
    "SUPPORTED",
    "AsyncEngineArgs",
    "CallbackBase",
    "CallbackConfig",
    "CallbackCtx",
    "CloudMirrorConfig",
    "FrontendArgs",
    "LLMServer",
    "NodeModelDownloadable",
    "download_model_files",
    "is_remote_path",
]

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

SUPPORTED = ">=2.58,<2.61"

_WHERE = {
    "ENGINE_START_TIMEOUT_S": "serve.constants",
    "ENV_VARS_TO_PROPAGATE": "serve.constants",
    "STREAMING_LOAD_FORMATS": "common.utils.download_utils",
    "AsyncEngineArgs": "serve.engines.vllm.vllm_models",
    "CallbackBase": "common.callbacks.base",
    "CallbackConfig": "common.callbacks.base",
    "CallbackCtx": "common.callbacks.base",
    "CloudMirrorConfig": "common.utils.cloud_utils",
    "FrontendArgs": "serve.engines.vllm.vllm_models",
    "LLMServer": "serve.core.server.llm_server",
    "NodeModelDownloadable": "common.utils.download_utils",
    "download_model_files": "common.utils.download_utils",
    "is_remote_path": "common.utils.cloud_utils",
}


def warn_if_untested() -> None:
    """Warn if this was not tested with the installed Ray: it may have all the names, and no longer call some."""
    import ray
    from packaging.specifiers import SpecifierSet  # Ray needs it too
    from packaging.version import InvalidVersion

    try:
        tested = SpecifierSet(SUPPORTED).contains(ray.__version__, prereleases=True)
    except InvalidVersion:  # a build of somebody's own
        tested = False
    if not tested:
        logger.warning(
            "serve_llm_hooks is not tested with Ray %s: hooks may be absent, or run at wrong times. Supported: Ray %s.",
            ray.__version__,
            SUPPORTED,
        )


def unsupported(what: str, why: ImportError | AttributeError) -> ImportError:
    """Return the error for a failed import from Ray: the version found, those supported, the missing name."""
    try:
        import ray
    except ImportError:
        found = "without Ray, which is not installed"
    else:
        found = f"with Ray {getattr(ray, '__version__', 'of an unknown version')}"
    return ImportError(
        f"{what} cannot be imported {found} ({why}). Supported: Ray {SUPPORTED}, with the packages of ray[llm].",
        name=__name__,
    )


if not TYPE_CHECKING:  # a checker that sees it takes every name for there

    def __getattr__(name: str) -> Any:
        if name not in _WHERE:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        path = f"ray.llm._internal.{_WHERE[name]}"
        try:
            value = getattr(import_module(path), name)
        except (ImportError, AttributeError) as error:
            raise unsupported(f"{name} of {path}, which serve_llm_hooks needs,", error) from error
        globals()[name] = value
        return value
