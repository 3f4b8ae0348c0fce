"""Identify the replica of Serve that this process is, and the rollout that it belongs to."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING

from .._node.task import Rollout

if TYPE_CHECKING:
    from collections.abc import Sequence


def names_of_replica() -> Sequence[str]:
    """Return the names of the replica's application, deployment, and its own; empty without Serve."""
    with contextlib.suppress(Exception):  # no replica: there Serve is imported already
        context = sys.modules["ray.serve"].get_replica_context()
        return context.app_name, context.deployment, context.replica_tag
    return ()


def rollout_of_replica() -> Rollout | None:
    """Return the rollout of this process's replica; ``None`` if this is none of Serve's."""
    if "ray.serve" not in sys.modules:  # it takes seconds to import, and in a replica it is
        return None
    from ray import serve
    from ray.serve.exceptions import RayServeException

    try:
        context = serve.get_replica_context()
    except RayServeException:
        return None
    # Without a version, nothing is known to be of one rollout but what is of one replica.
    version = context.code_version or context.replica_tag
    return Rollout(f"{context.app_name}#{context.deployment}", str(version))
