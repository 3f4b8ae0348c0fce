"""Identify the rollout that a replica of Serve belongs to."""

from __future__ import annotations

import sys

from .._node.task import Rollout


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
