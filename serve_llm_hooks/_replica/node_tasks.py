"""Make the tasks that nodes are sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._core.errors import reraise_if_not_a_failure
from .._core.messages import one_line
from .._node.packing import pack_hooks
from .._node.task import NodeTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.hook import Hook
    from .start import Start


def shared_fields(start: Start, hooks: Sequence[Hook]) -> dict[str, Any]:
    """Return what the tasks of all nodes have in common."""
    packed_hooks = pack_hooks(hooks)  # first: its errors name the hook
    llm_config, config_failure = _packed_config(start) if hooks else (None, "")
    return {
        "model_id": start.model_id,
        "source_id": start.defaults.source_id,
        "hooks": packed_hooks,
        "llm_config": llm_config,
        "config_failure": config_failure,
        "config_sources": start.selection.sources if hooks else (),
        "on_error": start.defaults.on_error,
        **({"rollout": start.cluster.rollout()} if any(hook.options.once_per_node for hook in hooks) else {}),
    }


def task_for(start: Start, node_id: str, **fields: Any) -> NodeTask:
    """Return the task of a node."""
    cluster = start.cluster
    return NodeTask(**cluster.node(node_id)._asdict(), is_local=node_id == cluster.local_node_id, **fields)


def _packed_config(start: Start) -> tuple[bytes | None, str]:
    """Return the pickled config, or why it cannot be pickled: few hooks on nodes ask for it, so it is no error yet.

    An object in it may have changed since the config came here.
    """
    from .._node.by_value import dumps

    try:
        return dumps(start.llm_config), ""
    except BaseException as error:
        reraise_if_not_a_failure(error)
        return None, f"the config of model {start.model_id!r} cannot be sent to another process: {one_line(error)}"
