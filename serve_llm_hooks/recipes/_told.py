"""Note the failures that have been told, by a mark in Ray's key-value store for each rollout."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx

_NAMESPACE = "serve_llm_hooks.recipes"  # of Ray's key-value store


def deployment() -> dict[str, str]:
    """Return the names of the deployment; nothing outside of Serve."""
    serve: Any = sys.modules.get("ray.serve")
    try:
        context = serve.get_replica_context()
    except Exception:  # there is no Ray Serve here, or this is no replica of its
        return {}
    version = str(getattr(context, "code_version", None) or "")
    return {"application": context.app_name, "deployment": context.deployment, "version": version}


def _key(ctx: CallbackCtx) -> str:
    return "/".join(["failure told", ctx.model_id, *deployment().values()])


def _is_connected() -> bool:
    ray: Any = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


def was_told(ctx: CallbackCtx) -> bool:
    """Return whether a try of this rollout has told its failure, within the hour; note that this one does."""
    if not _is_connected():
        return False
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    key, now = _key(ctx), f"{time.time():.0f}".encode()
    if not _internal_kv_put(key, now, overwrite=False, namespace=_NAMESPACE):
        return False
    told = _internal_kv_get(key, namespace=_NAMESPACE)
    if told and time.time() - float(told) < 3600:
        return True
    _internal_kv_put(key, now, overwrite=True, namespace=_NAMESPACE)
    return False


def forget(ctx: CallbackCtx) -> None:
    """Let the next failure be told."""
    if _is_connected():
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(_key(ctx), namespace=_NAMESPACE)
