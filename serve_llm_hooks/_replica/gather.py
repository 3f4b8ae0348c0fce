"""Send tasks to nodes and wait for their reports: for all, or until a grace or the timeout is over."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .._core.errors import NodeInitializationError, NodeLostError, reraise_if_not_a_failure
from .._core.messages import counted, one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.node import Node
    from .._node.task import NodeReport, NodeTask
    from .._observe.progress import Progress
    from .cluster import Cluster


POLITE_CANCEL_S = 3.0
"""Seconds that a cancelled task of a node has to stop by itself; then its process is ended by force."""

_CANCEL_S = 10.0  # how long a cluster may take to cancel a node's task


async def run_on_nodes(
    cluster: Cluster, tasks: Sequence[NodeTask], runtime_env: dict[str, Any] | None, progress: Progress
) -> tuple[dict[str, NodeReport], dict[str, Exception]]:
    """Run tasks on their nodes at once.

    Once a node has failed, the others have ``cluster.node_grace_s`` left; unfinished tasks are cancelled.

    Returns:
        The reports and the failures, each by node id. A node with neither was cancelled.
    """
    loop = asyncio.get_running_loop()
    reports: dict[str, NodeReport] = {}
    failures: dict[str, Exception] = {}
    answers: asyncio.Queue[str] = asyncio.Queue()

    async def ask(task: NodeTask) -> None:
        try:
            report = await cluster.run_on_node(task, runtime_env=runtime_env)
        except Exception as error:
            failures[task.node_id] = error
        except asyncio.CancelledError as error:
            reraise_if_not_a_failure(error, asyncio.current_task())
            failures[task.node_id] = _cancelled(task, error)
        else:
            reports[task.node_id] = report
            if report.failure is not None:
                failures[task.node_id] = report.failure
        answers.put_nowait(task.node_id)

    running = [loop.create_task(ask(task)) for task in tasks]
    waiting = {task.node_id: task.node for task in tasks}
    deadline_s = loop.time() + cluster.node_timeout_s
    try:
        with progress.waiting_for(lambda: f"{len(waiting)} of {len(tasks)} nodes: {_labels(tuple(waiting.values()))}"):
            while waiting:
                async with asyncio.timeout_at(deadline_s):
                    node_id = await answers.get()
                del waiting[node_id]
                if node_id in failures:
                    deadline_s = min(deadline_s, loop.time() + cluster.node_grace_s)
    except TimeoutError:
        if not failures:
            failures = {node.node_id: _unanswered(node, cluster.node_timeout_s) for node in waiting.values()}
    finally:
        unfinished = [task for task in running if not task.done()]
        for task in unfinished:
            task.cancel()
        if unfinished:
            with progress.waiting_for(f"the tasks of {counted(len(unfinished), 'node')} to be cancelled"):
                await asyncio.wait(unfinished, timeout=_CANCEL_S)
    return reports, failures


def _cancelled(task: NodeTask, error: BaseException) -> NodeLostError:
    why = f"the task of model {task.model_id!r} on {task.node} was cancelled by something else"
    return NodeLostError(f"{why}: {one_line(error)}", node_id=task.node_id)


def _labels(nodes: Sequence[Node]) -> str:
    return ", ".join(sorted(node.label for node in nodes[:8]))


def _unanswered(node: Node, timeout_s: float) -> NodeLostError:
    return NodeLostError(
        f"{node} did not answer within {timeout_s:g} s; its task was cancelled. Is the node "
        "up, and does the download need longer? The limit is SERVE_LLM_HOOKS_NODE_TIMEOUT_S.",
        node_id=node.node_id,
    )


def raise_failures(cluster: Cluster, model_id: str, node_ids: Sequence[str], failures: dict[str, Exception]) -> None:
    """Raise one error for all nodes that have failed, if any.

    Raises:
        NodeInitializationError: a node has.
    """
    failed = [node_id for node_id in node_ids if node_id in failures]
    if not failed:
        return
    lines = [f"  {cluster.node(node_id)}: {one_line(failures[node_id])}" for node_id in failed]
    message = f"{counted(len(failed), 'node')} of model {model_id!r} could not be initialized:\n" + "\n".join(lines)
    raise NodeInitializationError(message, [failures[node_id] for node_id in failed], failed)
