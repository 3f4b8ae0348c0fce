"""The nodes of a start: what each is sent, what each reports, and the path of the model that follows from it."""

from __future__ import annotations

import logging
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .._core.context import set_read_only
from .._core.errors import HookPickleError, ServeLLMHooksError
from .._core.messages import one_line
from .._core.points import HOOK_POINTS
from .._node.packing import pack_custom_data, unpack_custom_data, with_changes
from .._node.task import NodeTask, has_bucket, wants_download
from .._observe import announce
from .._sources.weights import is_late
from .background_on_nodes import NodesInBackground
from .gather import raise_failures, run_on_nodes
from .node_tasks import shared_fields, task_for
from .placement import moved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.download_mode import DownloadMode
    from .._core.points import HookName
    from .._core.results import NodeResult
    from .._node.task import NodeReport
    from .placement import Placement
    from .start import Start


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

_STEPS: tuple[HookName, ...] = tuple(
    point.name for point in HOOK_POINTS.values() if point.on_node and point.during == "start" and not point.after_engine
)
_AFTER_ENGINE: tuple[HookName, ...] = tuple(
    point.name for point in HOOK_POINTS.values() if point.on_node and point.after_engine
)
_AFTER_FAILURE: tuple[HookName, ...] = tuple(
    point.name for point in HOOK_POINTS.values() if point.on_node and point.during == "failure"
)


class Nodes:
    """The nodes of one start.

    Attributes:
        downloaded_path: the path in ``ctx.model_path`` that came from the download, and not from a hook.
    """

    def __init__(self, start: Start, placement: Placement) -> None:
        self._start = start
        self._placement = placement
        self._results: dict[str, NodeResult] = {}
        self._sent: dict[str, tuple[tuple[str, bytes], ...]] = {}  # the custom_data of each first task
        self._touch_nodes: bool | None = None
        self._background = NodesInBackground(start, self._results, self._custom_data_for)
        self.downloaded_path: str | None = None

    async def initialize(self, *, vetoed: bool) -> None:
        """Run hooks and downloads on the group's nodes, on each node once.

        Args:
            vetoed: ``True`` if a hook vetoed the downloads, and with them all of this.

        Raises:
            NodeInitializationError: a node failed.
        """
        start = self._start
        await self._placement.ensure()
        if self._touch_nodes is None:  # decided once: a hook after the downloads cannot change it
            self._touch_nodes = start.ctx.run_init_node
            if not self._touch_nodes and not vetoed:
                start.leave_out("on_before_download", "a hook set ctx.run_init_node = False")
        if not self._touch_nodes:
            await self._placement.wait_for_default()
            return
        node_ids = await self._placement.node_ids()
        new = [node_id for node_id in node_ids if node_id not in self._results]
        if not new:
            return
        self._tell_files(new)
        tasks = self._tasks(new)
        for node_id in new:
            start.record_disabled(_STEPS[0], start.cluster.node(node_id))
        sent = [task for task in tasks.values() if task is not None]
        self._background.begin(_STEPS[0], new)
        with start.trace.step("nodes"):
            reports, failures = await run_on_nodes(start.cluster, sent, start.ctx.runtime_env, start.progress)
        for node_id in new:
            result = self._result(node_id, reports.get(node_id), failures, was_sent=tasks[node_id] is not None)
            self._results[node_id] = result
            for point in _AFTER_FAILURE if result.error else _STEPS[1:]:
                start.record_disabled(point, start.cluster.node(node_id))
        set_read_only(start.ctx, nodes=MappingProxyType(self._results))
        raise_failures(start.cluster, start.model_id, new, failures)
        self._choose_path(node_ids)
        for point in _STEPS[1:]:
            self._background.begin(point, new)
        self._background.begin_weights([node_id for node_id, report in reports.items() if report.weights_due])

    async def after_engine(self) -> None:
        """Run the hooks for once the engine is up, on the nodes of its group: a second task on each.

        Raises:
            NodeInitializationError: a node failed.
            PlacementGroupError: a node has come to the group since.
        """
        start = self._start
        by_point, disabled = start.selection.by_point, start.selection.disabled
        if not self._touch_nodes or not any(by_point[point] or disabled[point] for point in _AFTER_ENGINE):
            return
        node_ids = await self._placement.node_ids()
        for node_id in node_ids:
            for point in _AFTER_ENGINE:
                start.record_disabled(point, start.cluster.node(node_id))
        if not any(by_point[point] for point in _AFTER_ENGINE):
            return
        if new := [start.cluster.node(node_id) for node_id in node_ids if node_id not in self._results]:
            raise moved(start.model_id, new)
        for point in _AFTER_ENGINE:
            self._background.begin(point, node_ids)
        if all(hook.is_background for point in _AFTER_ENGINE for hook in by_point[point]):
            return
        tasks = tuple(self._second_tasks(node_ids).values())
        with start.trace.step("nodes"):
            reports, failures = await run_on_nodes(start.cluster, tasks, start.ctx.runtime_env, start.progress)
        for node_id in node_ids:
            report = reports.get(node_id)
            result = self._result(node_id, report, failures, was_sent=True)
            known = self._results[node_id]
            # Of a node that is lost, or that ran no hook, what is known.
            custom_data = result.custom_data if report is not None and report.events else known.custom_data
            self._results[node_id] = replace(known, custom_data=custom_data, error=result.error)
            if result.error is not None:
                for point in _AFTER_FAILURE:
                    start.record_disabled(point, start.cluster.node(node_id))
        raise_failures(start.cluster, start.model_id, node_ids, failures)

    def _result(
        self, node_id: str, report: NodeReport | None, failures: dict[str, Exception], *, was_sent: bool
    ) -> NodeResult:
        """Return what a node came to; add a failure if its data cannot be unpickled here."""
        from .._core.results import NodeResult  # imported while the nodes were at work

        start = self._start
        node = start.cluster.node(node_id)
        known: dict[str, Any] = {**node._asdict(), "is_local": node_id == start.cluster.local_node_id}
        if report is not None:
            start.trace.extend(report.events)
            start.trace.steps += report.steps
            try:
                custom_data = unpack_custom_data(report.custom_data, where=f"in the replica, from {node}")
            except HookPickleError as error:  # this node's failure, which must not hide those of others
                failures.setdefault(node_id, error)
            else:
                if report.failure is not None or node_id not in failures:
                    return NodeResult(
                        **known,
                        path=report.path,
                        custom_data=custom_data,
                        download_model=report.download_model,
                        skipped=report.skipped,
                        start_s=report.start_s,
                        end_s=report.end_s,
                        download_s=report.download_s,
                        error=None if report.failure is None else str(report.failure),
                    )
        if node_id in failures:
            return NodeResult(**known, error=one_line(failures[node_id]))
        if not was_sent:
            return NodeResult(**known, path=start.defaults.source_id, download_model=self._mode(node_id))
        return NodeResult(**known, error="cancelled, because another node failed")

    def _tell_files(self, node_ids: Sequence[str]) -> None:
        start = self._start
        modes = self._chosen_modes(node_ids)
        if modes and has_bucket(start.defaults.mirror):
            announce.tell_files(
                start.model_id, modes, str((start.defaults.mirror or {})["bucket_uri"]), "nodes download"
            )

    def warn_of_files(self) -> None:
        """Warn of a choice of files that has come to nothing, now that it is known what the engine loads."""
        start = self._start
        modes = self._chosen_modes(tuple(self._results))
        loads_source = start.ctx.model_path in (None, start.defaults.source_id)
        if modes and loads_source and not has_bucket(start.defaults.mirror):
            announce.warn_of_files(start.model_id, modes, start.defaults.source_id, "nodes download")

    def _chosen_modes(self, node_ids: Sequence[str]) -> str:
        """Return the modes that differ from the default; an empty string where none does."""
        chosen = dict.fromkeys(self._mode(node_id) for node_id in node_ids)
        return ", ".join(mode.name for mode in chosen) if {*chosen} - {self._start.defaults.download_model} else ""

    def _mode(self, node_id: str) -> DownloadMode:
        ctx = self._start.ctx
        if ctx.local_node_download_model is not None and node_id == self._start.cluster.local_node_id:
            return ctx.local_node_download_model
        return ctx.worker_node_download_model

    def _tasks(self, node_ids: Sequence[str]) -> dict[str, NodeTask | None]:
        """Return the task of each node; ``None`` where there is nothing to do."""
        start = self._start
        on_nodes = start.selection.on_nodes
        hooks = [hook for hook in on_nodes if hook.point not in _AFTER_ENGINE and not hook.is_background]
        mirror = start.defaults.mirror
        steps = any(hook.point in _STEPS for hook in hooks)  # without any, and a download, there is nothing to fail
        busy = [node_id for node_id in node_ids if steps or wants_download(mirror, self._mode(node_id))]
        tasks: dict[str, NodeTask | None] = dict.fromkeys(node_ids)
        if busy:
            late = is_late(start.llm_config) and has_bucket(mirror)
            shared = {**shared_fields(start, hooks), "mirror": mirror, "weights": "late" if late else "first"}
            custom_data = pack_custom_data(start.ctx.custom_data, where="the replica") if hooks else ()
            for node_id in busy:
                self._sent[node_id] = custom_data
                mode = self._mode(node_id)
                tasks[node_id] = task_for(start, node_id, download_model=mode, custom_data=custom_data, **shared)
        return tasks

    def _second_tasks(self, node_ids: Sequence[str]) -> dict[str, NodeTask]:
        """Return the task of each node for once the engine is up: it has its own data, and nothing to download."""
        start = self._start
        hooks = [hook for hook in start.selection.on_nodes if hook.point not in _STEPS and not hook.is_background]
        shared = {**shared_fields(start, hooks), "mirror": None, "after_engine": True}
        tasks: dict[str, NodeTask] = {}
        for node_id in node_ids:
            known = self._results[node_id]
            tasks[node_id] = task_for(
                start,
                node_id,
                download_model=known.download_model,
                model_path=known.path,
                custom_data=pack_custom_data(self._custom_data_for(known), where="the replica"),
                **shared,
            )
        return tasks

    def _custom_data_for(self, known: NodeResult) -> dict[str, Any]:
        """Return the replica's data as it is now, with what the node's own hooks have changed."""
        sent = unpack_custom_data(self._sent.get(known.node_id, ()), where="in the replica")
        return with_changes(self._start.ctx.custom_data, sent, known.custom_data)

    def _choose_path(self, node_ids: Sequence[str]) -> None:
        """Use our own node's path for the engine, unless a hook set one. vLLM takes one path for all nodes."""
        start = self._start
        ctx = start.ctx
        if ctx.model_path != self.downloaded_path:
            return
        local = start.cluster.local_node_id
        ours = self._results[local if local in self._results else node_ids[0]].path
        self.downloaded_path = ctx.model_path = ours
        paths: dict[str, Any] = {node_id: self._results[node_id].path for node_id in node_ids}
        others = {node_id: path for node_id, path in paths.items() if path not in (ours, None)}
        if ours is None or not others:
            return
        message = f"model {start.model_id!r} is at {ours} here, but elsewhere on " + ", ".join(
            f"{start.cluster.node(node_id)} ({path})" for node_id, path in others.items()
        )
        if start.defaults.engine_workers > 1:
            raise ServeLLMHooksError(
                f"{message}. The engine takes one path for all its workers: download to the same path everywhere, "
                "or set ctx.model_path to one that is good on all nodes."
            )
        logger.warning("%s; the engine loads %s", message, ours)
