"""End a node's work whose process, or node, is gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn

from serve_llm_hooks import NodeLostError

if TYPE_CHECKING:
    from serve_llm_hooks._node.task import NodeTask

    from .fault_kinds import LostNodeFault, NodeProcessDiesFault


async def lose(fault: LostNodeFault | NodeProcessDiesFault, task: NodeTask) -> NoReturn:
    """Raise what Ray does, when it notices.

    Raises:
        NodeLostError: always.
    """
    await asyncio.sleep(1e9 if fault.noticed_after_s is None else fault.noticed_after_s)
    raise NodeLostError(
        f"{task.node} was lost while model {task.model_id!r} was initialized there: its worker died",
        node_id=task.node_id,
    )
