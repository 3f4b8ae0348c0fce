"""The only imports from ``ray.llm._internal``. Supported: Ray 2.58 to 2.60.

Each name is imported on first use, because the costs differ by ten seconds: the download code imports torch, the
engine's config imports vLLM. A test checks all names on each supported version of Ray.
"""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import _lazy_imports

# The one list of names: Python does not run it, and __getattr__ below imports from it.
if TYPE_CHECKING:
    from ray.llm._internal.common.callbacks.base import (
        CallbackBase as CallbackBase,
        CallbackConfig as CallbackConfig,
        CallbackCtx as CallbackCtx,
    )
    from ray.llm._internal.common.utils.cloud_utils import (
        CloudFileSystem as CloudFileSystem,
        CloudMirrorConfig as CloudMirrorConfig,
        is_remote_path as is_remote_path,
    )
    from ray.llm._internal.common.utils.download_utils import (
        STREAMING_LOAD_FORMATS as STREAMING_LOAD_FORMATS,
        NodeModelDownloadable as NodeModelDownloadable,
        download_model_files as download_model_files,
    )
    from ray.llm._internal.serve.constants import (
        ENGINE_START_TIMEOUT_S as ENGINE_START_TIMEOUT_S,
        ENV_VARS_TO_PROPAGATE as ENV_VARS_TO_PROPAGATE,
    )
    from ray.llm._internal.serve.core.server.llm_server import LLMServer as LLMServer
    from ray.llm._internal.serve.engines.vllm.vllm_engine import (
        _normalize_vllm_engine_kwargs as _normalize_vllm_engine_kwargs,
    )
    from ray.llm._internal.serve.engines.vllm.vllm_models import (
        AsyncEngineArgs as AsyncEngineArgs,
        FrontendArgs as FrontendArgs,
    )
    from ray.llm._internal.serve.observability.usage_telemetry.usage import (
        _get_or_create_telemetry_agent as _get_or_create_telemetry_agent,
    )

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

SUPPORTED = ">=2.58,<2.61"


def import_engine() -> None:
    """Import the module that Ray's config task needs, and vLLM with it."""
    import_module("ray.llm._internal.serve.engines.vllm.vllm_engine")


@cache
def warn_if_untested() -> None:
    """Warn, once, if this was not tested with the installed Ray: it may have all the names, and no longer call some."""
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


if not TYPE_CHECKING:  # a checker that sees a __getattr__ takes every name for existing

    def __getattr__(name: str) -> Any:
        module = None if name.startswith("__") else _lazy_imports.module_of(__name__, name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            value = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise unsupported(f"{name} of {module}, which serve_llm_hooks needs,", error) from error
        globals()[name] = value
        return value
