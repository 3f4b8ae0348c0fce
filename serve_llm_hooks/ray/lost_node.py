"""``lost``: why a node did not answer, in words, from what Ray says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ray.exceptions import (
    OutOfMemoryError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskUnschedulableError,
    WorkerCrashedError,
)

from .._core.errors import NodeLostError, is_a
from .._core.messages import one_line

if TYPE_CHECKING:
    from .._node.task import NodeTask


def lost(task: NodeTask, error: RayError) -> NodeLostError:
    """Return the error that says why a node will not answer."""
    where = f"{task.node} was lost while model {task.model_id!r} was initialized there"
    if is_a(error, RuntimeEnvSetupError):
        where = f"the runtime_env of model {task.model_id!r} cannot be set up on {task.node}"
    elif is_a(error, TaskUnschedulableError):
        where = f"{task.node} is gone, so model {task.model_id!r} cannot be initialized there"
    elif is_a(error, WorkerCrashedError) or is_a(error, OutOfMemoryError):
        where = f"the process of model {task.model_id!r} on {task.node} was killed (out of memory?)"
    elif is_a(error, RayTaskError):
        where = (
            f"the task of model {task.model_id!r} could not run on {task.node}; is the same version of "
            "serve-llm-hooks installed there?"
        )
    return NodeLostError(f"{where}: {one_line(error)}", node_id=task.node_id)
