"""The ``Cluster`` port of a fake cluster.

All above the port is production code: the order of hooks, vetoes, which node downloads what and which error is raised
are decided there, for a fake cluster as for a real one.
"""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
from typing import TYPE_CHECKING, Any, TypeVar

from serve_llm_hooks import PlacementGroupError
from serve_llm_hooks._core.messages import counted, describe
from serve_llm_hooks._node.task import Rollout
from serve_llm_hooks._node.work import run_task
from serve_llm_hooks._replica.engine_args import split_engine_kwargs

from .._virtual_time.loop import VirtualLoop
from ..engine import FakeEngine
from ..errors import HarnessError
from ..placement_group import FakePlacementGroup
from .accelerators import runs_on_cpu
from .answers import ErrorInfo
from .copies import copied
from .default_group import default_group, describe_group, describe_nodes
from .defaults import defaults_of
from .disks import Disk
from .downloads import download, happens_now
from .engine_args import argument_names, check_config_kwargs, check_engine_kwargs, model_path
from .engine_processes import EngineProcesses
from .fault_hooks import packed_death_hook, with_death_packed, with_failing_packed, without_module
from .fault_kinds import (
    DownloadFault,
    EngineAnswersErrorFault,
    EngineFailsFault,
    LostNodeFault,
    MissingModuleFault,
    NodeProcessDiesFault,
    UnschedulableFault,
)
from .lost import lose
from .made_up import made_up_node
from .process import NodeProcess
from .process_states import ProcessStates, node_process_id
from .start import ReplicaStart
from .timing import context_on_node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from serve_llm_hooks import CallbackCtx, DownloadMode, HookName
    from serve_llm_hooks._core.node import Node
    from serve_llm_hooks._node.task import NodeReport, NodeTask
    from serve_llm_hooks._replica.cluster import ReplicaDefaults

    from .fault_kinds import Fault
    from .settings import ClusterSettings

FaultT = TypeVar("FaultT")


class SimulatedCluster(EngineProcesses):
    """A cluster for one run, which takes virtual time and fails as its faults say.

    Attributes:
        start: the current start of the replica.
        default_group: the group that the replica is in, or acquires.
        triggered: the faults that have happened.
        processes: what the replica and the nodes have to themselves.
    """

    local_node_id: str = "node-0"
    epoch_s: float | None = 0.0  # the trace shows virtual seconds since the run began

    def __init__(self, settings: ClusterSettings, time: Callable[[], float]) -> None:
        self.settings = settings
        self.node_timeout_s: float = settings.node_timeout_s
        self.node_grace_s: float = settings.node_grace_s
        self.start = ReplicaStart("", ())
        self.default_group: FakePlacementGroup = settings.default_group
        self.triggered: list[Fault] = []
        self.processes = ProcessStates(under_serve=settings.in_group, shares_environment=settings.shares_environment)
        self._time = time
        self._background_tasks = 0

    def trigger(self, kind: type[FaultT], node_id: str | None = None) -> list[FaultT]:
        """Return the faults of a kind (on a node) that happen now."""
        found = list(self._faults(kind, node_id))
        self.triggered += found  # type: ignore[arg-type]  # FaultT is one of the union Fault
        return found

    def clock(self) -> float:
        """Return the virtual seconds since the run began."""
        return self._time()

    def go_on(self, time: Callable[[], float]) -> None:
        """Let the clock go on with that of another event loop, which begins at 0."""
        so_far_s = self._time()
        self._time = lambda: so_far_s + time()

    def node(self, node_id: str) -> Node:
        """Return a node with a made-up address."""
        return made_up_node(node_id)

    def defaults(self, llm_config: Any) -> ReplicaDefaults:
        """Return what the replica would do without any hook.

        Raises:
            ValueError: an engine argument that vLLM does not know, in Ray's words.
        """
        settings = self.settings
        check_config_kwargs(llm_config.engine_kwargs, settings.more_engine_args)
        self.start.given_kwargs = dict(llm_config.engine_kwargs)  # as Ray, which does not look there again
        defaults = defaults_of(llm_config)
        self.default_group = default_group(settings, llm_config, defaults.engine_workers)
        if not settings.in_group and settings.own_bundles is None:
            return defaults
        return defaults._replace(placement_group=self.default_group, own_bundles=settings.own_bundles)

    def rollout(self) -> Rollout:
        """Return a rollout, as all runs of the cluster have until a test asks for a new one."""
        return Rollout("fake", str(self.settings.rollouts))

    async def acquire_placement_group(self, llm_config: Any) -> FakePlacementGroup:
        """Return the default group."""
        return self.default_group

    async def remove_placement_group(self, placement_group: Any) -> None:
        """Do nothing: each start has a group of its own."""

    async def node_ids(self, placement_group: Any, own_bundles: Sequence[int] | None = None) -> Sequence[str]:
        """Return the nodes of a group, or of some of its bundles, once it is scheduled."""
        self.start.reach("on_before_download")
        if not isinstance(placement_group, FakePlacementGroup):
            raise HarnessError(
                f"the fake cluster cannot tell the nodes of {describe(placement_group)}: in a test, let the hook use a "
                "FakePlacementGroup(node_ids=[...])"
            )
        nodes = self.settings.node_names
        bundles = placement_group.node_ids
        if placement_group == self.default_group:
            for fault in self.trigger(UnschedulableFault):
                await asyncio.sleep(fault.after_s)
                raise PlacementGroupError(
                    f"the placement group was not scheduled within {fault.after_s:g} s: asked for "
                    f"{counted(placement_group.bundle_count, 'bundle')}; the {len(nodes)} nodes are full"
                )
            if not self.start.group_scheduled:  # production asks again after the hooks that may replace the group
                await asyncio.sleep(self.settings.placement_group_s)
                self.start.group_scheduled = True
        if not bundles or not set(bundles) <= set(nodes):
            raise PlacementGroupError(
                f"the placement group can never be scheduled: asked for {describe_group(placement_group)}; "
                f"{describe_nodes(self.settings.node_resources)}"
            )
        return tuple(dict.fromkeys(bundles if own_bundles is None else [bundles[index] for index in own_bundles]))

    async def run_on_node(self, task: NodeTask, *, runtime_env: dict[str, Any] | None) -> NodeReport:
        """Run a task as in a process of the node: the task and its report are pickled on their way."""
        if not task.in_background:
            self.start.reach("on_after_node_engine_init" if task.after_engine else "on_after_node_download")
        node = self.start.run.nodes[task.node_id]
        node.tasks += 1
        node.runtime_env = copy.deepcopy(runtime_env)
        if self.settings.timing is not None:
            await self.settings.timing.begin(task)
        lost: dict[HookName | None, LostNodeFault] = {
            fault.at: fault for fault in self._faults(LostNodeFault, task.node_id)
        }
        if None in lost:
            return await self._lose(lost[None], task)
        arrived = self._apply_hook_faults(pickle.loads(pickle.dumps(task)))
        arrived = arrived._replace(hooks=(*arrived.hooks, *(packed_death_hook(point) for point in lost if point)))
        answer = await self._work_on_node(arrived, runtime_env)
        if not isinstance(answer, str):
            return answer
        deaths = self._faults(NodeProcessDiesFault, task.node_id)
        fault = lost.get(answer) or next(deaths)
        return await self._lose(fault, task)

    async def _lose(self, fault: LostNodeFault | NodeProcessDiesFault, task: NodeTask) -> NodeReport:
        self.triggered.append(fault)
        return await lose(fault, task)

    async def node_work(self, task: NodeTask, environ: Mapping[str, str]) -> NodeReport:
        """Do the work of a node, in its process; subclasses see how it ends."""
        disk = Disk(environ, self.settings.disks, task.node_id)
        return await run_task(task, self._download, clock=self.clock, epoch_s=0.0, environ=environ, folder=disk)

    async def _work_on_node(self, task: NodeTask, runtime_env: dict[str, Any] | None) -> NodeReport | HookName:
        """Do a node's work. Return its report, or the point at which its process has died."""
        context = context_on_node(self.settings.timing, task.node_id)
        state = self.processes.for_node(runtime_env)
        state.process_id = process_id = self._new_process_id(task)
        process = NodeProcess(self.node_work(task, os.environ), context, state)
        report = await process.wait()
        if report is None:
            process.kill()
            assert process.died_at is not None
            return process.died_at
        events = tuple(event._replace(process_id=process_id) for event in report.events)
        steps = tuple(step._replace(process_id=process_id) for step in report.steps)
        back: NodeReport = pickle.loads(pickle.dumps(report._replace(events=events, steps=steps)))
        return back

    def _new_process_id(self, task: NodeTask) -> int:
        index = int(task.node_id.removeprefix("node-"))
        if task.in_background:
            self._background_tasks += 1
            index = len(self.settings.node_names) + self._background_tasks
        return node_process_id(index, second=task.after_engine)

    def configure_engine(self, llm_config: Any, ctx: CallbackCtx, *, path_by_hook: bool) -> None:
        """Write the arguments that hooks have set into the replica's copy of the config, and make the engine."""
        engine_names, frontend_names = argument_names()
        engine, frontend = split_engine_kwargs(
            ctx.extra_init_kwargs,
            engine_names=engine_names | self.settings.more_engine_args,
            frontend_names=frontend_names,
            current=llm_config.engine_kwargs,
        )
        llm_config.engine_kwargs.update(engine | frontend)
        kwargs = {key: copied(value) for key, value in (self.start.given_kwargs | engine | frontend).items()}
        if runs_on_cpu(llm_config) and "distributed_executor_backend" in kwargs:
            kwargs["distributed_executor_backend"] = "mp"  # Ray's choice, whatever the config says
        defaults = defaults_of(llm_config)
        self.start.engine = FakeEngine(
            kwargs={key: value for key, value in kwargs.items() if key not in frontend_names},
            frontend_kwargs={key: value for key, value in kwargs.items() if key in frontend_names},
            model_path=model_path(
                kwargs, defaults.mirror, ctx.model_path, defaults.source_id, path_by_hook=path_by_hook
            ),
            placement_group=ctx.placement_group,
            runtime_env=ctx.runtime_env,
            model_id=str(llm_config.model_id),
        )
        self.start.llm_config = llm_config

    async def start_engine(self) -> FakeEngine:
        """Start the engine that was configured, which production code leaves to Ray.

        Raises:
            RuntimeError: arguments that Ray or vLLM refuses, in their words.
        """
        engine = self.start.engine
        assert engine is not None
        config = self.start.llm_config
        check_engine_kwargs(engine.kwargs, on_cpu=runs_on_cpu(config))
        if self.settings.engine_check is not None:
            engine.vllm_kwargs = self.settings.engine_check(
                config,
                engine_kwargs=engine.kwargs,
                frontend_kwargs=engine.frontend_kwargs,
                model_path=engine.model_path,
            )
        after_s, error = self.settings.engine_start_s, None
        for fault in self.trigger(EngineFailsFault):
            after_s = after_s if fault.after_s is None else fault.after_s
            error = fault.error
        import_s = min(self.settings.engine_import_s, after_s)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        loop.block(import_s)  # as vLLM does
        await self.start_processes(config)
        loop.block(after_s - import_s)
        if error is not None:
            raise error
        self.start.answering = tuple(self._faults(EngineAnswersErrorFault))
        for answers in self._faults(EngineAnswersErrorFault):
            engine.error = ErrorInfo(answers.message, code=answers.code)
        return engine

    # -- nodes ------------------------------------------------------------------------------------------------------

    def _faults(self, kind: type[FaultT], node_id: str | None = None) -> Iterator[FaultT]:
        for fault in self.settings.faults:
            if isinstance(fault, kind) and node_id in (None, getattr(fault, "node_id", None)):
                yield fault

    def _apply_hook_faults(self, task: NodeTask) -> NodeTask:
        """Return a task as its node can unpack it, with the hooks failing that faults name."""
        for fault in self._faults(MissingModuleFault, task.node_id):
            hooks = tuple(without_module(hook, fault.module) for hook in task.hooks)
            if hooks != task.hooks:
                self.triggered.append(fault)
                task = task._replace(hooks=hooks)
        deaths, failing = tuple(self._faults(NodeProcessDiesFault, task.node_id)), self.start.failing
        changed = (with_failing_packed(hook, failing, task.node_id) for hook in task.hooks)
        return task._replace(hooks=tuple(with_death_packed(hook, deaths) for hook in changed))

    async def _download(self, task: NodeTask, mode: DownloadMode) -> str | None:
        faults = [fault for fault in self._faults(DownloadFault, task.node_id) if happens_now(fault, task)]
        self.triggered += faults
        return await download(self.start.run.nodes[task.node_id], task, mode, self.settings.download_s, faults)
