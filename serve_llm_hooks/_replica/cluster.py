"""``Cluster``: the port, all that a replica's start needs of a cluster.

``serve_llm_hooks.ray.RayCluster`` and ``serve_llm_hooks_testing.FakeCluster`` implement it. Everything that is decided
(order, vetoes, which node downloads what, which error is raised) is decided above it, so both decide alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .._core.download_mode import DownloadMode
from .._core.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.context import CallbackCtx
    from .._core.node import Node
    from .._core.options import OnError
    from .._node.task import NodeReport, NodeTask, Rollout
    from .._observe.measures import Writer
    from .._process.task import ProcessReport, ProcessTask


class ReplicaDefaults(NamedTuple):
    """The settings of a replica's start without any hook.

    Attributes:
        source_id: what a node is asked to download: the model's Hugging Face id, or its folder.
        mirror: the cloud mirror's config as a plain dict (``bucket_uri``, ``extra_files``), or ``None``.
        download_model: what every node downloads.
        placement_group: the group that the replica already runs in, if any.
        runtime_env: the runtime environment of node tasks and engine workers.
        engine_workers: how many workers the engine starts (its parallel size).
        own_bundles: which bundles of ``placement_group`` are this replica's, in the order of its workers; ``None``:
            all. Where it is set (a data-parallel rank), replicas share the group, and none can replace it.
        on_error: the error policy of hooks that have none of their own.
    """

    source_id: str
    mirror: dict[str, Any] | None = None
    download_model: DownloadMode = DownloadMode.MODEL_AND_TOKENIZER
    placement_group: Any = None
    runtime_env: dict[str, Any] | None = None
    engine_workers: int = 1
    own_bundles: tuple[int, ...] | None = None
    on_error: OnError = "raise"


class Cluster(Protocol):
    """All that a replica's start needs of a cluster.

    Attributes:
        node_timeout_s: how long a node may take, its download included.
        node_grace_s: how long the other nodes may still take once one has failed.
    """

    node_timeout_s: float
    node_grace_s: float

    def clock(self) -> float:
        """Return seconds from any starting point; the trace is written in them."""
        ...

    @property
    def epoch_s(self) -> float | None:
        """The time to add to :meth:`clock` for seconds since the epoch; ``None``: the system's clock tells."""
        ...

    @property
    def local_node_id(self) -> str:
        """The node on which the replica runs."""
        ...

    def replica_names(self) -> Sequence[str]:
        """Return the names of the replica's application, deployment, and its own; empty without Serve. Never fails."""
        ...

    def metrics_writer(self) -> Writer | None:
        """Return what writes a start into the cluster's metrics, in any thread; ``None`` where there are none."""
        ...

    def node(self, node_id: str) -> Node:
        """Return a node with its address and host's name, as far as they are known. Never fails."""
        ...

    def defaults(self, llm_config: Any) -> ReplicaDefaults:
        """Return the settings of a start without any hook."""
        ...

    def rollout(self) -> Rollout:
        """Return what the replica has in common with those that were rolled out with it."""
        ...

    async def acquire_placement_group(self, llm_config: Any) -> Any:
        """Return the default group: the one that the replica runs in, or a new one.

        Raises:
            PlacementGroupError: it cannot be had.
        """
        ...

    async def remove_placement_group(self, placement_group: Any) -> None:
        """Give back a group that :meth:`acquire_placement_group` returned, after a start that failed."""
        ...

    async def node_ids(self, placement_group: Any, own_bundles: Sequence[int] | None = None) -> Sequence[str]:
        """Return the nodes of a group's bundles, each once, in the order of the bundles, once it is scheduled.

        Args:
            placement_group: the group.
            own_bundles: only these of its bundles, in this order.

        Raises:
            PlacementGroupError: it cannot be scheduled.
        """
        ...

    async def run_on_node(self, task: NodeTask, *, runtime_env: dict[str, Any] | None) -> NodeReport:
        """Run ``_node.work.run_task`` on the task's node. When cancelled, cancel it there.

        Raises:
            NodeLostError: no answer will come.
        """
        ...

    def news(self) -> Sequence[str]:
        """Return what the running tasks of nodes have last told, a line each. Called in any thread; never fails."""
        ...

    def open_processes(self, task: ProcessTask) -> None:
        """Let each process of the engine that is started next find a task, and run it before it looks at the model.

        Called only where there are hooks at ``on_engine_process_start``, or something for the workers to wait for, and
        before the hooks of the replica's own process run.

        Raises:
            HookLoadError: it cannot reach them.
        """
        ...

    def release_processes(self, failure: str) -> None:
        """Tell the workers that what the task says they wait for is over. Called in any thread; never fails.

        Args:
            failure: why it has failed; empty if it has not.
        """
        ...

    def close_processes(self) -> Sequence[ProcessReport]:
        """End that, and return what processes have told, those that have died included. Never fails."""
        ...

    def configure_engine(self, llm_config: Any, ctx: CallbackCtx, *, path_by_hook: bool) -> None:
        """Write what hooks decided into the config that the engine is about to be started with.

        Args:
            llm_config: the deployment's config.
            ctx: holds ``extra_init_kwargs``, ``model_path``, ``placement_group``, ``runtime_env``.
            path_by_hook: ``True`` if a hook set ``ctx.model_path``, and not the download.

        Raises:
            EngineArgumentError: a key that the engine cannot be given.
        """
        ...
