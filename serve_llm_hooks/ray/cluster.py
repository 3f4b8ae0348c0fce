"""``RayCluster``: the ``Cluster`` port on a real Ray."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import time
from dataclasses import fields
from math import nan
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from .._core.download_mode import DownloadMode
from .._core.errors import PlacementGroupError
from .._core.messages import describe, readable
from .._core.node import Node
from .._core.seconds import check_seconds
from .._node.task import Rollout
from .._replica.cluster import ReplicaDefaults
from .._replica.engine_args import split_engine_kwargs
from .._replica.gather import POLITE_CANCEL_S
from .ahead import do_while_nodes_work
from .capacity import autoscales, describe_nodes, node_of_ray
from .node_entry import run_packed_task
from .node_news import NodeNews

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.context import CallbackCtx
    from .._node.task import NodeReport, NodeTask
    from .._observe.measures import Writer
    from .._process.task import ProcessReport, ProcessTask
    from .engine_channel import Channel
    from .engine_gate import Gate


_FORCED_END_S = 10.0  # how long after the timeout a node's process ends by itself, if cancelling did not reach it
_INDICES = "VLLM_RAY_BUNDLE_INDICES"
_POLL_S = 0.1  # how often a placement group's state is asked for; more often at first

# Not retried: a hook that ran half-way must not run again unnoticed. One call: the process ends with its task, and
# with it everything that the task's hooks left there.
_run_packed_task = ray.remote(num_cpus=0, max_retries=0, max_calls=1)(run_packed_task)


class RayCluster:
    """The Ray cluster that this process is connected to.

    Args:
        node_timeout_s: how long a node may take, its download included. Default: the environment's
            ``SERVE_LLM_HOOKS_NODE_TIMEOUT_S``, else an hour (Ray's own limit for an engine's start).
        node_grace_s: how long the other nodes may still take once one has failed.
        placement_group_timeout_s: how long a placement group may wait to be scheduled. Default: the environment's
            ``SERVE_LLM_HOOKS_PLACEMENT_GROUP_TIMEOUT_S``, else half an hour.

    Example:
        >>> await initialize_node(config, cluster=RayCluster(node_timeout_s=600))  # doctest: +SKIP
    """

    epoch_s: float | None = None

    def __init__(
        self,
        *,
        node_timeout_s: float | None = None,
        node_grace_s: float = 10.0,
        placement_group_timeout_s: float | None = None,
    ) -> None:
        """Check and keep the limits; nothing is asked of Ray yet."""
        self.node_timeout_s: float = (
            _seconds_of_environment("SERVE_LLM_HOOKS_NODE_TIMEOUT_S", 3600.0)
            if node_timeout_s is None
            else check_seconds("node_timeout_s", node_timeout_s)
        )
        self._nodes: dict[str, Node] = {}
        self._channel: Channel | None = None
        self._gate: Gate | None = None
        self._news = NodeNews()
        self.node_grace_s: float = check_seconds("node_grace_s", node_grace_s, zero=True)
        self.placement_group_timeout_s: float = (
            _seconds_of_environment("SERVE_LLM_HOOKS_PLACEMENT_GROUP_TIMEOUT_S", 1800.0)
            if placement_group_timeout_s is None
            else check_seconds("placement_group_timeout_s", placement_group_timeout_s)
        )

    def clock(self) -> float:
        """Return monotonic seconds."""
        return time.perf_counter()

    @property
    def local_node_id(self) -> str:
        """The node on which this process runs."""
        return ray.get_runtime_context().get_node_id()

    def replica_names(self) -> Sequence[str]:
        """Return the names of the replica's application, deployment, and its own; empty without Serve."""
        from .rollout import names_of_replica  # asked for when the start is over

        return names_of_replica()

    def metrics_writer(self) -> Writer | None:
        """Return what writes into Ray's metrics; ``None`` where ``SERVE_LLM_HOOKS_METRICS`` turns them off."""
        from .metrics import metrics_writer

        return metrics_writer()

    def node(self, node_id: str) -> Node:
        """Return a node with its address and host's name, as Ray knows them."""
        if node_id not in self._nodes:
            self._nodes[node_id] = Node(node_id)
            with contextlib.suppress(Exception):  # an address in a message is not worth a start
                self._nodes.update((node.node_id, node) for node in map(node_of_ray, ray.nodes()))
        return self._nodes[node_id]

    def defaults(self, llm_config: Any) -> ReplicaDefaults:
        """Return the settings of a start by Ray itself."""
        from .internals import STREAMING_LOAD_FORMATS

        engine = llm_config.get_engine_config()
        mirror = engine.mirror_config
        streams = llm_config.engine_kwargs.get("load_format") in STREAMING_LOAD_FORMATS
        return ReplicaDefaults(
            source_id=engine.actual_hf_model_id,
            mirror=None if mirror is None else mirror.model_dump(),
            download_model=DownloadMode.NONE if streams else DownloadMode.MODEL_AND_TOKENIZER,
            placement_group=get_current_placement_group(),
            runtime_env=engine.get_runtime_env_with_local_env_vars(),
            engine_workers=engine.num_devices,
            own_bundles=_own_bundles(),
            on_error="raise" if llm_config.callback_config.raise_error_on_callback else "warn",
        )

    def rollout(self) -> Rollout:
        """Return the replica's application, deployment and code version; outside of Serve, the job of Ray."""
        from .rollout import rollout_of_replica  # few hooks run once per node

        return rollout_of_replica() or Rollout(f"job {ray.get_runtime_context().get_job_id()}")

    async def acquire_placement_group(self, llm_config: Any) -> Any:
        """Return the group that the replica runs in, or a new one as Ray would make it."""
        return llm_config.get_engine_config().get_or_create_pg()

    async def remove_placement_group(self, placement_group: Any) -> None:
        """Remove a group, so that it does not hold, or wait for, resources that others could use."""
        ray.util.remove_placement_group(placement_group)

    async def node_ids(self, placement_group: Any, own_bundles: Sequence[int] | None = None) -> list[str]:
        """Return the nodes of a group's bundles, each once, in the order of the bundles, once it is scheduled."""
        table = await self._scheduled(placement_group)
        nodes: dict[int, str] = table["bundles_to_node_id"]
        if missing := [index for index in own_bundles or () if index not in nodes]:
            raise PlacementGroupError(
                f"{_INDICES} names the bundles {missing}, but placement group {table['placement_group_id']} has "
                f"{len(nodes)}, from 0 on"
            )
        return list(dict.fromkeys(nodes[index] for index in own_bundles or sorted(nodes)))

    async def run_on_node(self, task: NodeTask, *, runtime_env: dict[str, Any] | None) -> NodeReport:
        """Run a task on its node. When cancelled, cancel it there, politely and then by force."""
        ref = _run_packed_task.options(
            name=f"serve_llm_hooks:{task.model_id}",
            scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=task.node_id, soft=False),
            runtime_env=runtime_env,
        ).remote(pickle.dumps(task), self.node_timeout_s + _FORCED_END_S, *self._news.expect(task))
        do_while_nodes_work()
        try:
            report: NodeReport = pickle.loads(await ref)
        except RayError as error:  # first: that of a task which failed so is a CancelledError too
            from .lost_node import lost  # few nodes are

            raise lost(task, error) from readable(error)
        except asyncio.CancelledError:
            await _cancel(ref)
            raise
        finally:
            self._news.forget(task)
        return report

    def news(self) -> Sequence[str]:
        """Return what the tasks on nodes have last told of themselves, a line each."""
        return self._news.lines()

    def open_processes(self, task: ProcessTask) -> None:
        """Put a task into the environment, which the engine's processes inherit. The replica's own hooks are ours."""
        from .._process.payload import check_plugins  # few engines have such hooks
        from . import engine_process
        from .engine_channel import open_channel
        from .engine_gate import Gate

        check_plugins(task.model_id, os.environ)
        self._channel = open_channel(task)
        engine_process.is_mine(self._channel)
        if task.waits_for:
            self._gate = Gate(self._channel)

    def release_processes(self, failure: str) -> None:
        """Let the workers that wait go on."""
        if self._gate is not None:
            self._gate.open(failure)

    def close_processes(self) -> Sequence[ProcessReport]:
        """Take the task away, and return what processes have told."""
        from .engine_channel import close_channel

        channel, self._channel = self._channel, None
        if self._gate is not None:
            self._gate.close()
        return [] if channel is None else close_channel(channel)

    def configure_engine(self, llm_config: Any, ctx: CallbackCtx, *, path_by_hook: bool) -> None:
        """Write what hooks decided into Ray's config, and into the engine config that Ray has cached in it."""
        config = llm_config.get_engine_config()
        if ctx.extra_init_kwargs:
            from .internals import AsyncEngineArgs, FrontendArgs

            engine, frontend = split_engine_kwargs(
                ctx.extra_init_kwargs,
                engine_names={field.name for field in fields(AsyncEngineArgs)},
                frontend_names={field.name for field in fields(FrontendArgs)},
                current=llm_config.engine_kwargs,
            )
            llm_config.engine_kwargs.update(engine | frontend)
            config.engine_kwargs.update(engine)
            config.frontend_kwargs.update(frontend)
        config.runtime_env = ctx.runtime_env
        if ctx.model_path is not None:
            config.hf_model_id = ctx.model_path
        if path_by_hook:
            # With a mirror in place, Ray's engine would look for the mirror's download once more, and prefer it.
            config.mirror_config = None

    async def _scheduled(self, placement_group: Any) -> dict[str, Any]:
        """Return the group's table, once it is scheduled."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self.placement_group_timeout_s
        poll_s = _POLL_S / 32
        while True:
            table: dict[str, Any] = ray.util.placement_group_table(placement_group)
            state = table.get("state", "REMOVED")  # Ray forgets removed ones after a while
            if state == "CREATED":
                return table
            if state == "REMOVED":
                raise PlacementGroupError(f"placement group {placement_group.id.hex()} has been removed")
            infeasible = table["stats"]["scheduling_state"] == "INFEASIBLE" and not autoscales()
            if infeasible or loop.time() >= deadline_s:
                why = "can never be scheduled" if infeasible else f"was not scheduled within {self._limit()}"
                bundles = ", ".join(map(str, table["bundles"].values()))
                raise PlacementGroupError(
                    f"placement group {table['placement_group_id']} {why}: asked for {table['strategy']} of {bundles}; "
                    f"{describe_nodes()}"
                )
            await asyncio.sleep(poll_s)
            poll_s = min(2 * poll_s, _POLL_S)

    def _limit(self) -> str:
        return f"{self.placement_group_timeout_s:g} s (SERVE_LLM_HOOKS_PLACEMENT_GROUP_TIMEOUT_S)"


def _own_bundles() -> tuple[int, ...] | None:
    """Return which bundles of the replica's group are its own; ``None`` for all.

    Ray's data-parallel server, whose ranks share a group, tells vLLM by this variable.
    """
    indices = os.environ.get(_INDICES, "")
    try:
        return tuple(int(index) for index in indices.split(",")) if indices else None
    except ValueError:
        raise PlacementGroupError(f"{_INDICES} is a list of numbers, as in '0,1', not {indices!r}") from None


def _seconds_of_environment(variable: str, default: float) -> float:
    given = os.environ.get(variable)
    if given is None:
        return default
    try:
        seconds = float(given)
    except ValueError:
        seconds = nan
    return check_seconds(variable, seconds, shown=describe(given))


async def _cancel(ref: Any) -> None:
    for force in (False, True):
        with contextlib.suppress(RayError):  # a raylet that is gone has nothing to cancel
            ray.cancel(ref, force=force)
        done, _ = await asyncio.wait({asyncio.ensure_future(_settled(ref))}, timeout=POLITE_CANCEL_S)
        if done:
            return


async def _settled(ref: Any) -> None:
    with contextlib.suppress(RayError, asyncio.CancelledError):
        await ref
