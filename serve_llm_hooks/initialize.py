"""``initialize_node``: how a replica starts, from top to bottom."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from .context import CallbackCtx, InitializeNodeOutput, NodeResult, close, set_read_only
from .dispatch import Dispatcher, one_line
from .errors import (
    HookLoadError,
    HookPickleError,
    NodeInitializationError,
    NodeLostError,
    PlacementGroupError,
    ServeLLMHooksError,
    let_through,
)
from .loading import config_hooks
from .node import NodeReport, NodeTask, pack_custom_data, pack_hooks, wants_download
from .points import HOOK_NAMES, did_you_mean
from .policy import DISABLE, Switches, names_of, source_of
from .progress import Progress
from .registry import HookRegistry, registry
from .trace import Trace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from .cluster import Cluster, ReplicaDefaults
    from .context import Skip
    from .points import HookName
    from .registry import Hook

__all__ = ["Initialization", "initialization", "initialize_node"]

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

_CANCEL_S = 10.0  # how long a cluster may take to cancel a node's task


async def initialize_node(
    llm_config: Any,
    *,
    start_engine: Callable[[CallbackCtx], Awaitable[Any]] | None = None,
    cluster: Cluster | None = None,
) -> InitializeNodeOutput:
    """Start a replica: run its hooks around placement group, downloads and engine.

    Args:
        llm_config: the deployment's config.
        start_engine: starts the engine and gives it back; called with ``ctx`` once the config is final. Left out,
            the engine points still run, with no engine.
        cluster: where; left out, the Ray cluster that this process is connected to.

    Returns:
        What the engine was started with.

    Raises:
        HookError: a hook in the replica failed.
        NodeInitializationError: one or more nodes failed; an ``ExceptionGroup`` of their errors.
        PlacementGroupError: the cluster cannot hold the placement group.
        EngineArgumentError: hooks set an argument that the engine cannot be given.
        Exception: whatever ``start_engine`` raised, unchanged.

    Example:
        >>> output = await initialize_node(config, start_engine=start)  # doctest: +SKIP
    """
    async with initialization(llm_config, cluster=cluster) as run:
        run.engine = None if start_engine is None else await start_engine(run.ctx)
    return run.output


@asynccontextmanager
async def initialization(
    llm_config: Any,
    *,
    cluster: Cluster | None = None,
    hooks: HookRegistry | None = None,
    on_begin: Callable[[Initialization], object] | None = None,
) -> AsyncIterator[Initialization]:
    """The same, for those who start the engine themselves: do it inside the ``async with``.

    Args:
        llm_config: the deployment's config.
        cluster: where; left out, the Ray cluster that this process is connected to.
        hooks: the hooks to run, as far as they are for the model; left out, those that the config selects.
        on_begin: given the start before anything of it happens, so that its trace is there when it fails.

    Example:
        >>> async with initialization(config) as run:  # doctest: +SKIP
        ...     run.engine = await my_engine(**run.output.extra_init_kwargs)
    """
    if cluster is None:
        from .ray import RayCluster  # from there, and not from its module: without Ray, the error says what is missing

        cluster = RayCluster()
    run = _begin(llm_config, cluster, hooks)
    ctx = run.ctx
    if on_begin is not None:
        on_begin(run)
    async with run:
        try:
            if await run.point("on_before_init"):
                ctx.run_init_node = False
                await run.point("on_custom_init")
                await run.ensure_placement_group()
                await run.wait_for_default_group()
            else:
                await run.ensure_placement_group()
                if await run.point("on_before_download"):
                    ctx.run_init_node = False
                await run.initialize_nodes()
                await run.point("on_after_download")
                await run.point("on_after_placement_group")
                await run.initialize_nodes()  # those that a replaced group added
            group = ctx.placement_group
            await run.point("on_before_engine_init")
            await run.configure_engine(group)
            with run.progress.of("its engine to start"):
                yield run
            set_read_only(ctx, engine=run.engine)
            await run.point("on_after_engine_init")
            await run.point("on_after_init")
        except Exception as error:
            await run.failed(error)
            raise


def _begin(llm_config: Any, cluster: Cluster, hooks: HookRegistry | None) -> Initialization:
    """Import what the config names, and ask what would be done without it: seconds that belong to the start too."""
    try:
        with Progress(str(llm_config.model_id)) as progress, progress.of("its hooks and its engine to be imported"):
            return Initialization(llm_config, cluster, _selected(llm_config, cluster) if hooks is None else hooks)
    except Exception:
        raise
    except BaseException as error:  # let through, sys.exit would end Serve's event loop, and the replica would hang
        let_through(error)
        what = f"called sys.exit({error.code!r})" if isinstance(error, SystemExit) else f"raised {one_line(error)}"
        raise ServeLLMHooksError(
            f"{_replica(llm_config, cluster)}: a module that was imported for the start {what}"
        ) from error


def _same_group(one: Any, other: Any) -> bool:
    """Whether it is one group. Ray gives another handle of it each time it is asked."""
    return one is other or (hasattr(one, "id") and one == other)


def _selected(llm_config: Any, cluster: Cluster) -> HookRegistry:
    try:
        return config_hooks(llm_config)
    except HookLoadError as error:  # it names the module; where it is missing is known here
        raise type(error)(f"{_replica(llm_config, cluster)}: {error}") from error.__cause__


def _replica(llm_config: Any, cluster: Cluster) -> str:
    return f"in the replica of model {str(llm_config.model_id)!r} on node {cluster.local_node_id}"


class Initialization:
    """One start of one replica.

    Attributes:
        ctx: what hooks are given.
        engine: the engine, once whoever starts it has set it.
        trace: the hook calls so far.
        dispatcher: runs the hooks.
        progress: says in the log what is waited for.

    Use as an async context manager, around all of the start.
    """

    def __init__(self, llm_config: Any, cluster: Cluster, hooks: HookRegistry) -> None:
        self.llm_config = llm_config
        self.cluster = cluster
        self.defaults: ReplicaDefaults = cluster.defaults(llm_config)
        defaults = self.defaults
        self.engine: Any = None
        self.trace: Trace = Trace(node_id=cluster.local_node_id, clock=cluster.clock, epoch_s=cluster.epoch_s)
        self.ctx: CallbackCtx = CallbackCtx(
            llm_config=llm_config,
            worker_node_download_model=defaults.download_model,
            placement_group=defaults.placement_group,
            runtime_env=defaults.runtime_env,
            trace=self.trace,
        )
        self.model_id: str = self.ctx.model_id
        # All points now: an impossible order ends the start before it has begun.
        self._hooks: dict[HookName, list[Hook]] = {name: [] for name in HOOK_NAMES}
        self._disabled: dict[HookName, list[tuple[Hook, str]]] = {name: [] for name in HOOK_NAMES}
        switches = Switches()  # read once: one start has one answer, in the replica and on its nodes
        for hook in hooks.hooks(model_id=self.model_id):
            entry = switches.entry_for(hook)
            if entry is None:
                self._hooks[hook.point].append(hook)
            else:
                self._disabled[hook.point].append((hook, f"{entry!r} in {DISABLE}"))
        # Of the hooks for other models too: they are in the config that is sent to the nodes.
        self._sources: tuple[str, ...] = tuple(sorted({source_of(hook) for hook in hooks}))
        self._nodes: dict[str, NodeResult] = {}
        self._default_group: Any = defaults.placement_group
        self._acquired: bool = False
        self._touch_nodes: bool | None = None
        self._downloaded_path: str | None = None
        self.dispatcher: Dispatcher = Dispatcher(self.model_id, trace=self.trace, on_error=defaults.on_error)
        self.progress: Progress = Progress(self.model_id)
        self._say_what_runs(hooks)
        self._say_what_does_not(switches)

    async def __aenter__(self) -> Initialization:
        self.progress.__enter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *exc_info: object) -> None:
        await self.dispatcher.__aexit__(kind, *exc_info)
        self.progress.__exit__(kind, *exc_info)
        if kind is not None and self._acquired and not issubclass(kind, GeneratorExit):
            await self._give_back_default_group()

    @property
    def output(self) -> InitializeNodeOutput:
        """What the engine is started with."""
        ctx = self.ctx
        return InitializeNodeOutput(ctx.placement_group, ctx.runtime_env, dict(ctx.extra_init_kwargs))

    async def point(self, name: HookName) -> Skip | None:
        """Run a point's hooks; gives the veto, if there was one."""
        hooks = self._hooks[name]
        self._note_disabled(name)
        if not hooks:
            return None
        with self.progress.of(lambda: f"{self.trace.running or 'hooks'} at {name}"):
            return await self.dispatcher.run_point(hooks, self.ctx)

    async def ensure_placement_group(self) -> None:
        """Acquire the default group, unless the replica is in one or a hook has brought its own; give back one that we
        acquired and a hook has replaced.
        """
        shared = self.defaults.own_bundles
        if shared is not None and not _same_group(self.ctx.placement_group, self._default_group):
            raise PlacementGroupError(
                f"model {self.model_id!r}: a hook replaced ctx.placement_group, but this replica's place is in bundles "
                f"{', '.join(map(str, shared))} of the group that it is in, as a data-parallel rank's is. Size and "
                "place that group in the config (placement_group_config)."
            )
        if self.ctx.placement_group is None:  # also where a hook wrote that: it means the default
            if self._default_group is None:
                with self.progress.of("its placement group"):
                    self._default_group = await self.cluster.acquire_placement_group(self.llm_config)
                self._acquired = True
            self.ctx.placement_group = self._default_group
        elif self._acquired and not _same_group(self.ctx.placement_group, self._default_group):
            await self._give_back_default_group()  # the one that has replaced it may be waiting for what it holds

    async def wait_for_default_group(self) -> None:
        """Where no node is touched, see that the group that we acquired can be had: the engine would wait for it in
        silence. A group of a hook's own is the hook's affair.
        """
        if _same_group(self.ctx.placement_group, self._default_group):
            await self._node_ids()

    async def _give_back_default_group(self) -> None:
        group, self._default_group, self._acquired = self._default_group, None, False
        try:
            await self.cluster.remove_placement_group(group)
        except Exception as error:  # it must neither end the start nor take the place of what ended it
            logger.warning("model %r: its placement group may be left: %s", self.model_id, one_line(error))

    async def initialize_nodes(self) -> None:
        """Run hooks and downloads on the group's nodes, on each node once.

        Raises:
            NodeInitializationError: a node failed.
        """
        await self.ensure_placement_group()
        if self._touch_nodes is None:  # decided once: a hook after the downloads can neither veto them nor take it back
            self._touch_nodes = self.ctx.run_init_node
        if not self._touch_nodes:
            await self.wait_for_default_group()
            return
        node_ids = await self._node_ids()
        new = [node_id for node_id in node_ids if node_id not in self._nodes]
        if not new:
            return
        tasks = self._node_tasks(new)
        for node_id in new:
            self._note_disabled("on_before_node_download", node_id)
        reports, failures = await self._run_on_nodes([task for task in tasks.values() if task is not None])
        for node_id in new:
            is_local = node_id == self.cluster.local_node_id
            report = reports.get(node_id)
            result: NodeResult | None = None
            if report is not None:
                self.trace.extend(report.events)
                try:
                    result = report.result()
                except HookPickleError as error:  # this node's failure, which must not hide those of others
                    failures.setdefault(node_id, error)
            if node_id in failures and (result is None or result.error is None):
                self._nodes[node_id] = NodeResult(node_id, is_local, error=one_line(failures[node_id]))
            elif result is not None:
                self._nodes[node_id] = result
            elif tasks[node_id] is None:  # nothing to do there
                self._nodes[node_id] = NodeResult(
                    node_id,
                    is_local,
                    path=self.defaults.source_id,
                    download_model=self._mode(node_id),
                )
            else:
                self._nodes[node_id] = NodeResult(node_id, is_local, error="cancelled, because another node failed")
            if self._nodes[node_id].error is None:
                self._note_disabled("on_after_node_download", node_id)
        set_read_only(self.ctx, nodes=MappingProxyType(self._nodes))
        if failures:
            raise self._nodes_error([(node_id, failures[node_id]) for node_id in new if node_id in failures])
        self._choose_path(node_ids)

    async def configure_engine(self, group: Any) -> None:
        """Give the engine what hooks decided; from here on they cannot change it.

        Args:
            group: the placement group whose nodes are initialized.

        Raises:
            PlacementGroupError: a hook has replaced it since.
            EngineArgumentError: an argument that the engine cannot be given.
        """
        if not _same_group(self.ctx.placement_group, group):
            raise PlacementGroupError(
                f"model {self.model_id!r}: ctx.placement_group was replaced at on_before_engine_init, too late for its "
                "nodes to be initialized; replace it at on_after_placement_group or before"
            )
        path = self.ctx.model_path
        self.cluster.configure_engine(
            self.llm_config, self.ctx, path_by_hook=path is not None and path != self._downloaded_path
        )
        close(self.ctx)

    async def failed(self, error: Exception) -> None:
        """Run ``on_failure``. What fails in there is logged, and changes nothing of the error that is raised."""
        set_read_only(self.ctx, error=error)
        logger.error("model %r: the start failed: %s", self.model_id, one_line(error))
        self._note_disabled("on_failure")
        for hook in self._hooks["on_failure"]:  # one by one: a failing one must not keep the next from its clean-up
            try:
                with self.progress.of(f"{hook.ref} at on_failure"):
                    await self.dispatcher.run_point([hook], self.ctx)
            except Exception as other:
                logger.error("%s (the first error is raised)", other, exc_info=other)

    # -- nodes ------------------------------------------------------------------------------------------------------

    async def _node_ids(self) -> Sequence[str]:
        with self.progress.of("its placement group to be scheduled"):
            return await self.cluster.node_ids(self.ctx.placement_group, self.defaults.own_bundles)

    def _mode(self, node_id: str) -> Any:
        local = self.ctx.local_node_download_model
        if local is not None and node_id == self.cluster.local_node_id:
            return local
        return self.ctx.worker_node_download_model

    def _node_tasks(self, node_ids: Sequence[str]) -> dict[str, NodeTask | None]:
        """What each node is sent; nothing, where there is nothing to do."""
        hooks = (*self._hooks["on_before_node_download"], *self._hooks["on_after_node_download"])
        tasks: dict[str, NodeTask | None] = {}
        if not hooks and not any(wants_download(self.defaults.mirror, self._mode(id_)) for id_ in node_ids):
            return dict.fromkeys(node_ids)
        packed_hooks = pack_hooks(hooks)
        custom_data = pack_custom_data(self.ctx.custom_data, where="the replica") if hooks else ()
        llm_config, config_failure = self._pack_config() if hooks else (None, "")
        for node_id in node_ids:
            mode = self._mode(node_id)
            tasks[node_id] = (
                NodeTask(
                    node_id=node_id,
                    is_local=node_id == self.cluster.local_node_id,
                    model_id=self.model_id,
                    source_id=self.defaults.source_id,
                    mirror=self.defaults.mirror,
                    download_model=mode,
                    hooks=packed_hooks,
                    custom_data=custom_data,
                    llm_config=llm_config,
                    on_error=self.defaults.on_error,
                    config_sources=self._sources if hooks else (),
                    config_failure=config_failure,
                )
                if hooks or wants_download(self.defaults.mirror, mode)
                else None
            )
        return tasks

    def _pack_config(self) -> tuple[bytes | None, str]:
        """The config, or why it cannot be sent: an object in it may have changed since it came here, and few hooks on
        nodes ask for it."""
        import cloudpickle

        try:
            return cloudpickle.dumps(self.llm_config), ""
        except Exception as error:
            return None, f"the config of model {self.model_id!r} cannot be sent to another process: {one_line(error)}"

    async def _run_on_nodes(self, tasks: Sequence[NodeTask]) -> tuple[dict[str, NodeReport], dict[str, Exception]]:
        """Send all tasks, then wait: for all, or until a failure's grace or the timeout is over."""
        loop = asyncio.get_running_loop()
        reports: dict[str, NodeReport] = {}
        failures: dict[str, Exception] = {}
        answers: asyncio.Queue[str] = asyncio.Queue()

        async def ask(task: NodeTask) -> None:
            try:
                report = await self.cluster.run_on_node(task, runtime_env=self.ctx.runtime_env)
            except Exception as error:
                failures[task.node_id] = error
            else:
                reports[task.node_id] = report
                if report.failure is not None:
                    failures[task.node_id] = report.failure.revive(task.node_id)
            answers.put_nowait(task.node_id)

        running = {task.node_id: loop.create_task(ask(task)) for task in tasks}
        waiting = set(running)
        timeout_s = self.cluster.node_timeout_s
        deadline_s = loop.time() + timeout_s
        timed_out = False

        def what() -> str:
            return f"{len(waiting)} of {len(tasks)} nodes: {', '.join(sorted(waiting)[:8])}"

        try:
            with self.progress.of(what):
                while waiting:
                    try:
                        async with asyncio.timeout_at(deadline_s):
                            node_id = await answers.get()
                    except TimeoutError:
                        timed_out = not failures
                        break
                    waiting.discard(node_id)
                    if node_id in failures:
                        deadline_s = min(deadline_s, loop.time() + self.cluster.node_grace_s)
        finally:
            unfinished = [task for task in running.values() if not task.done()]
            for unfinished_task in unfinished:
                unfinished_task.cancel()
            if unfinished:
                with self.progress.of(f"the tasks of {len(unfinished)} nodes to be cancelled"):
                    await asyncio.wait(unfinished, timeout=_CANCEL_S)
        if timed_out:
            for node_id in waiting:
                failures.setdefault(
                    node_id,
                    NodeLostError(
                        f"node {node_id} did not answer within {timeout_s:g} s; its task was cancelled. Is the node "
                        "up, and does the download need longer? The limit is SERVE_LLM_HOOKS_NODE_TIMEOUT_S.",
                        node_id=node_id,
                    ),
                )
        return reports, failures

    def _nodes_error(self, failures: Sequence[tuple[str, Exception]]) -> NodeInitializationError:
        lines = [f"  node {node_id}: {one_line(error)}" for node_id, error in failures]
        count = "1 node" if len(failures) == 1 else f"{len(failures)} nodes"
        message = f"{count} of model {self.model_id!r} could not be initialized:\n" + "\n".join(lines)
        return NodeInitializationError(message, [error for _, error in failures], [node_id for node_id, _ in failures])

    def _choose_path(self, node_ids: Sequence[str]) -> None:
        """Our node's path is the engine's, unless a hook has set one; vLLM takes one path for all nodes."""
        if self.ctx.model_path != self._downloaded_path:
            return
        local = self.cluster.local_node_id
        ours = self._nodes[local if local in self._nodes else node_ids[0]].path
        self._downloaded_path = self.ctx.model_path = ours
        paths = {node_id: self._nodes[node_id].path for node_id in node_ids}
        others = {node_id: path for node_id, path in paths.items() if path not in (ours, None)}
        if ours is None or not others:
            return
        message = f"model {self.model_id!r} is at {ours} here, but elsewhere on " + ", ".join(
            f"node {node_id} ({path})" for node_id, path in others.items()
        )
        if self.defaults.engine_workers > 1:
            raise ServeLLMHooksError(
                f"{message}. The engine takes one path for all its workers: download to the same path everywhere, "
                "or set ctx.model_path to one that is good on all nodes."
            )
        logger.warning("%s; the engine loads %s", message, ours)

    # -- hooks that are turned off ----------------------------------------------------------------------------------

    def _note_disabled(self, name: HookName, node_id: str | None = None) -> None:
        """Leave a mark in the trace where hooks would have run."""
        for hook, why in self._disabled[name]:
            self.trace.disabled(hook, why, node_id=node_id)

    def _say_what_does_not(self, switches: Switches) -> None:
        off = [f"{hook.ref} at {hook.point}" for hooks in self._disabled.values() for hook, _ in hooks]
        if off:
            logger.warning(
                "model %r: %s=%r turns off %d of its hooks, which do not run: %s",
                self.model_id,
                DISABLE,
                switches.value,
                len(off),
                ", ".join(off),
            )
        names = [name for hooks in self._hooks.values() for hook in hooks for name in names_of(hook)]
        for entry in switches.unused:  # perhaps another model's: the environment may serve several
            logger.info(
                "model %r: %r in %s is no hook of this model%s",
                self.model_id,
                entry,
                DISABLE,
                did_you_mean(entry, names),
            )

    # -- what the log says ------------------------------------------------------------------------------------------

    def _say_what_runs(self, selected: HookRegistry) -> None:
        names = [hook.ref for hooks in self._hooks.values() for hook in hooks]
        logger.info("model %r: %d hooks: %s", self.model_id, len(names), ", ".join(names) or "none")
        if getattr(self.llm_config, "hooks", ()) is None:
            taken = set(selected)
            others = [hook.ref for hook in registry.for_model(self.model_id) if hook not in taken]
            if others:
                logger.info(
                    "model %r: registered for it, but not named in its config's hooks=[...], so not run: %s",
                    self.model_id,
                    ", ".join(others),
                )
