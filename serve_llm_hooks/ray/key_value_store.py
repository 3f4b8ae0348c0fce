"""Our part of Ray's key-value store, which all processes of a cluster reach."""

from __future__ import annotations

import sys
from typing import Any

_NAMESPACE = "serve_llm_hooks"


def is_connected() -> bool:
    """Return True if this process is connected to Ray."""
    ray: Any = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()


def put(key: str, value: bytes) -> None:
    """Store a value, in the place of any that is there."""
    from ray.experimental.internal_kv import _internal_kv_put

    _internal_kv_put(key, value, namespace=_NAMESPACE)


def get(key: str | bytes) -> bytes | None:
    """Return a value; ``None`` if there is none."""
    from ray.experimental.internal_kv import _internal_kv_get

    return _internal_kv_get(key, namespace=_NAMESPACE)


def delete(key: str | bytes) -> None:
    """Delete a value."""
    from ray.experimental.internal_kv import _internal_kv_del

    _internal_kv_del(key, namespace=_NAMESPACE)


def keys(prefix: str) -> list[bytes]:
    """Return the keys that begin so."""
    from ray.experimental.internal_kv import _internal_kv_list

    return _internal_kv_list(prefix, namespace=_NAMESPACE)
