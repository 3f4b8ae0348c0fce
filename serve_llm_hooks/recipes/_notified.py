"""Note the failures that have been told: for each rollout, until when no other try tells its own."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx

_NAMESPACE = "serve_llm_hooks.recipes"  # of Ray's key-value store
_HOUR_S = 3600.0


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


def is_notified(ctx: CallbackCtx, within_s: float) -> bool:
    """Return whether a try of this rollout has told its failure, or is about to; if not, note that this one is.

    Args:
        ctx: the start's.
        within_s: how long the note holds unless :func:`remember` follows. A replica may be killed before that.
    """
    if not _is_connected():
        return False
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    key, until = _key(ctx), f"{time.time() + within_s:.3f}".encode()
    if not _internal_kv_put(key, until, overwrite=False, namespace=_NAMESPACE):
        return False
    noted = _internal_kv_get(key, namespace=_NAMESPACE)
    if noted and time.time() < float(noted):
        return True
    _internal_kv_put(key, until, overwrite=True, namespace=_NAMESPACE)
    return False


def remember(ctx: CallbackCtx) -> None:
    """Note that the failure has been told: for an hour."""
    if _is_connected():
        from ray.experimental.internal_kv import _internal_kv_put

        until = f"{time.time() + _HOUR_S:.3f}".encode()
        _internal_kv_put(_key(ctx), until, overwrite=True, namespace=_NAMESPACE)


def forget(ctx: CallbackCtx) -> None:
    """Let the next failure be told."""
    if _is_connected():
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(_key(ctx), namespace=_NAMESPACE)
