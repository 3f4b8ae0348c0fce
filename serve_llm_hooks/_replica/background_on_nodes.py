"""Hooks that work in the background on nodes: each in a process of its own, beside the foreground's and after it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from .._core.errors import NodeLostError
from .._core.hook import Hook
from .._core.options import HookOptions
from .._core.until import PROCESS_START
from .._node.packing import pack_custom_data, unpack_custom_data, with_changes
from .._observe.progress import Progress
from .gather import raise_failures, run_on_nodes
from .node_tasks import shared_fields, task_for

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._core.points import HookName
    from .._core.results import NodeResult
    from .._node.task import NodeReport, NodeTask
    from .start import Start

Packed = tuple[tuple[str, bytes], ...]


class NodesInBackground:
    """The background on the nodes of one start.

    Args:
        start: the start.
        results: what the nodes' foreground has come to, by node id.
        custom_data_for: returns the data for a node of which a result is known.
    """

    def __init__(
        self,
        start: Start,
        results: dict[str, NodeResult],
        custom_data_for: Callable[[NodeResult], dict[str, Any]],
    ) -> None:
        self._start = start
        self._results = results
        self._custom_data_for = custom_data_for

    def begin(self, point: HookName, node_ids: Sequence[str]) -> None:
        """Begin the hooks of a point on nodes."""
        for hook in self._start.selection.by_point[point]:
            if hook.is_background:
                tasks = self._tasks(hook, node_ids)
                back: dict[str, dict[str, Any]] = {}
                self._start.background.work(hook, self._run(hook, tasks, back), partial(self._take, hook, tasks, back))

    def begin_weights(self, node_ids: Sequence[str]) -> None:
        """Begin the download of the weights on nodes that have the model's other files. The workers wait for it."""
        if not node_ids:
            return
        start = self._start
        shared = {**shared_fields(start, ()), "mirror": start.defaults.mirror}
        tasks = [
            task_for(
                start,
                node_id,
                custom_data=(),
                download_model=self._results[node_id].download_model,
                model_path=self._results[node_id].path,
                in_background=True,
                weights="only",
                **shared,
            )
            for node_id in node_ids
        ]
        back: dict[str, NodeReport] = {}
        start.background.work(_weights_as_a_hook(), self._download(tasks, back), partial(self._add_download, back))

    async def _download(self, tasks: Sequence[NodeTask], back: dict[str, NodeReport]) -> None:
        """Run tasks, in the loop of the background; put the report of each node into ``back``."""
        start = self._start
        progress = Progress(start.model_id)  # as below
        reports, failures = await run_on_nodes(start.cluster, tasks, start.ctx.runtime_env, progress)
        back.update(reports)
        raise_failures(start.cluster, start.model_id, [task.node_id for task in tasks], failures)

    def _add_download(self, back: dict[str, NodeReport]) -> None:
        """Add the time of a download to what is known of each node, and its step to the trace."""
        for node_id, report in back.items():
            self._start.trace.steps += report.steps
            known = self._results[node_id]
            self._results[node_id] = replace(known, download_s=known.download_s + report.download_s)

    def _tasks(self, hook: Hook, node_ids: Sequence[str]) -> list[NodeTask]:
        start = self._start
        shared = {**shared_fields(start, [hook]), "mirror": None, "in_background": True}
        tasks = []
        for node_id in node_ids:
            known = self._results.get(node_id)
            data = start.ctx.custom_data if known is None else self._custom_data_for(known)
            mode = start.defaults.download_model if known is None else known.download_model
            tasks.append(
                task_for(
                    start,
                    node_id,
                    custom_data=pack_custom_data(data, where="the replica"),
                    download_model=mode,
                    model_path=None if known is None else known.path,
                    **shared,
                )
            )
        return tasks

    async def _run(self, hook: Hook, tasks: Sequence[NodeTask], back: dict[str, dict[str, Any]]) -> None:
        """Run a hook's tasks, in the loop of the background; put the ``custom_data`` of each node into ``back``."""
        start = self._start
        progress = Progress(start.model_id)  # one that logs nothing: who waits for this says so
        reports, failures = await run_on_nodes(start.cluster, tasks, start.ctx.runtime_env, progress)
        answered = [task.node_id for task in tasks if task.node_id in reports]  # in their order, not in that of answers
        for node_id in answered:
            report = reports[node_id]
            start.trace.extend(report.events)
            where = f"in the replica, from {start.cluster.node(node_id)}"
            back[node_id] = unpack_custom_data(report.custom_data, where=where)
        told = {node_id: _with_hook(error, hook) for node_id, error in failures.items()}
        raise_failures(start.cluster, start.model_id, [task.node_id for task in tasks], told)

    def _take(self, hook: Hook, tasks: Sequence[NodeTask], back: dict[str, dict[str, Any]]) -> None:
        """Add what a hook has set on each node to what is known of the node."""
        for task in tasks:
            node = self._start.cluster.node(task.node_id)
            sent = unpack_custom_data(task.custom_data, where="in the replica")
            ours = self._results[task.node_id].custom_data
            changed = with_changes({}, sent, back[task.node_id])
            meanwhile = with_changes({}, sent, ours).keys()
            self._start.background.merge(hook, ours, changed, meanwhile, where=f" on {node}")


def _weights_as_a_hook() -> Hook:
    """Return a hook that stands for the download of the weights where hooks in the background are named."""
    hook = Hook(_weights_as_a_hook, HookOptions("on_after_node_download", until=PROCESS_START))
    hook.ref = "the download of the weights"
    return hook


def _with_hook(error: Exception, hook: Hook) -> Exception:
    """Return an error that names the hook that was at work; one of a process that has ended does not know it."""
    if type(error) is not NodeLostError:
        return error
    named = NodeLostError(
        f"{error} (in the background, {hook.ref} at {hook.point} was at work there)",
        node_id=error.node_id,
        remote_traceback=error.remote_traceback,
    )
    named.__cause__ = error.__cause__
    return named
