"""``FakeCluster``: a Ray cluster for tests, without Ray and without waiting.

It implements the same port as the real one (``serve_llm_hooks.cluster.Cluster``), and everything above that port is
the production code: what is decided there (order, vetoes, who downloads what, which error is raised) is not decided
again here.
"""

from __future__ import annotations

import asyncio
import copy
import os
import pickle
import time
from contextvars import Context
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from serve_llm_hooks import NodeLostError, PlacementGroupError
from serve_llm_hooks._node.work import run_task
from serve_llm_hooks._replica.engine_args import split_engine_kwargs

from . import faults as f
from .config import defaults_of
from .engine import argument_names
from .errors import HarnessError
from .run import FakeRun, recent
from .start import Start, in_event_loop, process_id, run_alone, tell
from .strikes import ProcessDied, packed_death, packed_missing_module

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from serve_llm_hooks import CallbackCtx, DownloadMode
    from serve_llm_hooks._node.task import NodeReport, NodeTask
    from serve_llm_hooks._replica.cluster import ReplicaDefaults

    from .clock import VirtualLoop

__all__ = ["FakeCluster", "FakePlacementGroup"]

FaultT = TypeVar("FaultT")


@dataclass(frozen=True)
class FakePlacementGroup:
    """A placement group on a fake cluster: the nodes of its bundles, in their order.

    A test makes one where a hook makes or replaces the group.

    Example:
        >>> from serve_llm_hooks_testing import FakePlacementGroup
        >>> FakePlacementGroup(node_ids=("node-0", "node-3")).node_ids
        ('node-0', 'node-3')
    """

    node_ids: tuple[str, ...] = ()

    def __init__(self, node_ids: Sequence[str]) -> None:
        object.__setattr__(self, "node_ids", tuple(node_ids))


class FakeCluster:
    """A cluster for tests: nothing sleeps, nothing is downloaded, nothing needs Ray or a GPU.

    Args:
        nodes: how many nodes: ``"node-0"``, the replica's own, ``"node-1"``, …
        group_nodes: how many of them the default placement group spans, from ``"node-0"`` on; left out, all.
        in_group: the replica is in its placement group from the beginning, as Serve starts it; ``False``: the group is
            acquired after ``on_before_init``, as where you call ``initialize_node`` yourself.
        own_bundles: the replica is one of several data-parallel ranks that share the group, and these of its bundles
            (one on each of its nodes) are its own; left out, all are.
        download_s: how long a download takes, in virtual seconds.
        engine_start_s: how long the engine's start takes.
        placement_group_s: how long the default placement group takes to be scheduled.
        node_timeout_s: how long a node may take, its download included, as in production.
        node_grace_s: when one node has failed, how long the others may still take, as in production.
        faults: what goes wrong (``failing_download("node-1")``, …).
        more_engine_args: engine arguments that your vLLM knows and this harness does not (``engine_args.json`` beside
            this file says which version's it knows); others are refused, as in production.
        real_sleep_limit_s: a hook that blocks for longer, in real seconds, is reported.

    Raises:
        HarnessError: no nodes, a negative time, a fault on a node that does not exist.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(nodes=3, download_s=20, engine_start_s=30).run(FakeLLMConfig("llama-2-7b"))
        >>> run.elapsed_s
        50.0
        >>> run.nodes["node-2"].downloaded
        [<DownloadMode.MODEL_AND_TOKENIZER: 'MODEL_AND_TOKENIZER'>]
    """

    epoch_s: float | None = 0.0  # virtual seconds count from the start of the run

    def __init__(
        self,
        nodes: int = 3,
        *,
        group_nodes: int | None = None,
        in_group: bool = True,
        own_bundles: Sequence[int] | None = None,
        download_s: float = 20.0,
        engine_start_s: float = 30.0,
        placement_group_s: float = 0.0,
        node_timeout_s: float = 3600.0,
        node_grace_s: float = 10.0,
        faults: Sequence[f.Fault] = (),
        more_engine_args: Iterable[str] = (),
        real_sleep_limit_s: float = 1.0,
    ) -> None:
        self.node_names: tuple[str, ...] = tuple(f"node-{index}" for index in range(f.check_count("nodes", nodes)))
        self.default_group: FakePlacementGroup = FakePlacementGroup(
            self.node_names if group_nodes is None else self.node_names[: f.check_count("group_nodes", group_nodes)]
        )
        if group_nodes is not None and group_nodes > nodes:
            raise HarnessError(f"group_nodes={group_nodes} does not fit on nodes={nodes}")
        self.in_group: bool = in_group
        self.own_bundles: tuple[int, ...] | None = None if own_bundles is None else tuple(own_bundles)
        if self.own_bundles is not None and not set(self.own_bundles) <= set(range(len(self.default_group.node_ids))):
            raise HarnessError(
                f"own_bundles={own_bundles!r}: the group has bundles 0 to {len(self.default_group.node_ids) - 1}"
            )
        self.download_s: float = f.check_seconds("download_s", download_s)
        self.engine_start_s: float = f.check_seconds("engine_start_s", engine_start_s)
        self.placement_group_s: float = f.check_seconds("placement_group_s", placement_group_s)
        self.node_timeout_s: float = f.check_seconds("node_timeout_s", node_timeout_s)
        self.node_grace_s: float = f.check_seconds("node_grace_s", node_grace_s)
        self.real_sleep_limit_s: float = f.check_seconds("real_sleep_limit_s", real_sleep_limit_s)
        if not self.real_sleep_limit_s:
            raise HarnessError("real_sleep_limit_s=0 would report every hook: give a number of seconds above 0")
        self.faults: tuple[f.Fault, ...] = f.check_faults(faults, self.node_names)
        self.more_engine_args: frozenset[str] = frozenset(more_engine_args)
        # The state of one run; `run` works on a copy.
        self.loop: VirtualLoop | None = None
        self.start: Start = Start({})
        self.struck: list[f.Fault] = []

    # -- running ----------------------------------------------------------------------------------------------------

    def run(self, config: Any, *, check: bool = True) -> FakeRun:
        """Start a replica, from ``on_before_init`` to ``on_after_init``.

        Args:
            config: a :class:`FakeLLMConfig`, or a real ``LLMConfig``.
            check: raise what production would raise; ``False`` keeps it in ``run.error``.

        Raises:
            HarnessError: inside a running event loop; ``await cluster.arun(config)`` is the form for that.
            Exception: what production would raise.

        Example:
            >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, engine_fails
            >>> run = FakeCluster(faults=[engine_fails("out of memory")]).run(FakeLLMConfig("m"), check=False)
            >>> run.error
            RuntimeError('out of memory')
        """
        if in_event_loop():
            raise HarnessError(
                "FakeCluster.run() was called inside a running event loop, which it would block: "
                "write `await cluster.arun(config)` there"
            )
        return _told(run_alone(self, config), check)

    async def arun(self, config: Any, *, check: bool = True) -> FakeRun:
        """The same from an async test. The run has its own event loop, with its own clock, in another thread.

        Example:
            >>> import asyncio
            >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
            >>> asyncio.run(FakeCluster().arun(FakeLLMConfig("m"))).elapsed_s
            50.0
        """
        return _told(await asyncio.to_thread(run_alone, self, config), check)

    def striking(self, kind: type[FaultT], node_id: str | None = None) -> list[FaultT]:
        """The faults of a kind that strike now (on a node). For the harness itself."""
        found: list[FaultT] = []
        for fault in self.faults:
            if isinstance(fault, kind) and node_id in (None, getattr(fault, "node_id", None)):
                found.append(fault)
                self.struck.append(fault)
        return found

    # -- the port ---------------------------------------------------------------------------------------------------

    def clock(self) -> float:
        """Virtual seconds since the run began."""
        return time.perf_counter() if self.loop is None else self.loop.now_s

    @property
    def local_node_id(self) -> str:
        """The node on which the replica runs: always ``"node-0"``."""
        return "node-0"

    def defaults(self, llm_config: Any) -> ReplicaDefaults:
        """What the replica would do without any hook.

        Raises:
            ValueError: an engine argument that vLLM does not know, in Ray's words.
        """
        if llm_config.engine_kwargs:
            known = frozenset.union(*argument_names(), self.more_engine_args)
            for key in llm_config.engine_kwargs:
                if key not in known:
                    raise ValueError(f"Unknown engine argument: {key}")
        defaults = defaults_of(llm_config)
        if not self.in_group and self.own_bundles is None:
            return defaults
        return replace(defaults, placement_group=self.default_group, own_bundles=self.own_bundles)

    async def acquire_placement_group(self, llm_config: Any) -> FakePlacementGroup:
        """The default group, on the first ``group_nodes`` nodes."""
        return self.default_group

    async def remove_placement_group(self, placement_group: Any) -> None:
        """There is nothing to give back: each start has a group of its own."""

    async def node_ids(self, placement_group: Any, own_bundles: Sequence[int] | None = None) -> Sequence[str]:
        """The nodes of a group, or of some of its bundles."""
        self.start.reach("on_before_download")
        if not isinstance(placement_group, FakePlacementGroup):
            raise HarnessError(
                f"the fake cluster cannot tell the nodes of {placement_group!r}: in a test, let the hook use a "
                "FakePlacementGroup(node_ids=[...])"
            )
        if placement_group is self.default_group:
            for fault in self.striking(f.UnschedulableFault):
                await asyncio.sleep(fault.after_s)
                raise PlacementGroupError(
                    f"the placement group was not scheduled within {fault.after_s:g} s: asked for "
                    f"{len(placement_group.node_ids)} bundles; the {len(self.node_names)} nodes are full"
                )
            if not self.start.scheduled:  # it is asked for again once hooks have had their last word on it
                await asyncio.sleep(self.placement_group_s)
                self.start.scheduled = True
        missing = [node_id for node_id in placement_group.node_ids if node_id not in self.start.nodes]
        if missing or not placement_group.node_ids:
            raise PlacementGroupError(
                f"the placement group can never be scheduled: asked for {list(placement_group.node_ids)}; there are "
                f"{len(self.node_names)} nodes, {self.node_names[0]} to {self.node_names[-1]}"
            )
        of_bundles = placement_group.node_ids
        return tuple(dict.fromkeys(of_bundles if own_bundles is None else [of_bundles[i] for i in own_bundles]))

    async def run_on_node(self, task: NodeTask, *, runtime_env: dict[str, Any] | None) -> NodeReport:
        """Run a task as if in a process of the node: what goes there and what comes back is pickled on the way."""
        self.start.reach("on_after_node_download")
        node = self.start.nodes[task.node_id]
        node.tasks += 1
        node.runtime_env = copy.deepcopy(runtime_env)
        there: NodeTask = pickle.loads(pickle.dumps(task))
        for lost in self.faults:
            if isinstance(lost, f.LostNodeFault) and lost.node_id == task.node_id:
                if lost.at is None:
                    return await self._lose(lost, task)
                there = replace(there, hooks=(*there.hooks, packed_death(lost.at)))
            elif isinstance(lost, f.MissingModuleFault) and lost.node_id == task.node_id:
                hooks = tuple(packed_missing_module(hook, lost.module) for hook in there.hooks)
                if hooks != there.hooks:
                    self.struck.append(lost)
                there = replace(there, hooks=hooks)
        # A process of its own has no context variables of ours.
        environ = {**os.environ, **((runtime_env or {}).get("env_vars") or {})}
        work = run_task(there, self._download, clock=self.clock, epoch_s=0.0, environ=environ)
        process = asyncio.get_running_loop().create_task(work, context=Context())
        while not process.done():
            try:
                await asyncio.wait({process})
            except asyncio.CancelledError:
                process.cancel()
        try:
            report = process.result()
        except ProcessDied as death:
            return await self._lose(
                next(
                    x
                    for x in self.faults
                    if isinstance(x, f.LostNodeFault) and (x.node_id, x.at) == (task.node_id, death.point)
                ),
                task,
            )
        pid = process_id(int(task.node_id.removeprefix("node-")))
        report = replace(report, events=tuple(event._replace(process_id=pid) for event in report.events))
        back: NodeReport = pickle.loads(pickle.dumps(report))
        return back

    def configure_engine(self, llm_config: Any, ctx: CallbackCtx, *, path_by_hook: bool) -> None:
        """Write what hooks decided into the replica's copy of the config."""
        engine_names, frontend_names = argument_names()
        engine, frontend = split_engine_kwargs(
            ctx.extra_init_kwargs,
            engine_names=engine_names | self.more_engine_args,
            frontend_names=frontend_names,
            current=llm_config.engine_kwargs,
        )
        llm_config.engine_kwargs.update(engine | frontend)
        merged = llm_config.engine_kwargs
        self.start.engine_kwargs = {key: value for key, value in merged.items() if key not in frontend_names}
        self.start.frontend_kwargs = {key: value for key, value in merged.items() if key in frontend_names}

    # -- nodes ------------------------------------------------------------------------------------------------------

    async def _download(self, task: NodeTask, mode: DownloadMode) -> str | None:
        node = self.start.nodes[task.node_id]
        node.downloaded.append(mode)
        seconds, path = self.download_s, f"/models/{task.source_id}"
        error, quietly = None, False
        for fault in self.striking(f.DownloadFault, task.node_id):
            seconds = seconds if fault.seconds is None else fault.seconds
            path = fault.path or path
            error = fault.error or error
            quietly = quietly or fault.quietly
        await asyncio.sleep(seconds)
        if quietly:
            return task.source_id
        if error is not None:
            raise RuntimeError(error)
        if not (mode and task.mirror and task.mirror.get("bucket_uri")):
            return task.source_id  # only extra files have arrived, and not the model
        node.path = path
        return path

    async def _lose(self, fault: f.LostNodeFault, task: NodeTask) -> NodeReport:
        self.struck.append(fault)
        await asyncio.sleep(1e9 if fault.noticed_after_s is None else fault.noticed_after_s)
        raise NodeLostError(
            f"node {task.node_id} was lost while model {task.model_id!r} was initialized there: its worker died",
            node_id=task.node_id,
        )


def _told(run: FakeRun, check: bool) -> FakeRun:
    """Tell whoever wants to know, in the test's own thread."""
    recent.append(run)
    unstruck = (f"{fault} never struck: the run did not come to it" for fault in run.unstruck)
    tell((*run.notes, *unstruck), run.error if check else None)
    return run
