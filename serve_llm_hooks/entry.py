"""The entrance to a replica's start for your own code, on Ray by default."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ._core.errors import HookLoadError
from ._core.until import SHUTDOWN, in_words
from ._replica.initialize import initialize
from ._sources.weights import refuse_late

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from ._core.context import CallbackCtx
    from ._core.output import InitializeNodeOutput
    from ._core.registry import HookRegistry
    from ._replica.cluster import Cluster
    from ._replica.initialize import Initialization


async def initialize_node(
    llm_config: Any,
    *,
    start_engine: Callable[[CallbackCtx], Awaitable[Any]] | None = None,
    cluster: Cluster | None = None,
) -> InitializeNodeOutput:
    """Start a replica: run its hooks around placement group, downloads and engine.

    Args:
        llm_config: the deployment's config.
        start_engine: starts the engine and returns it; called with ``ctx`` once the config is final. Left out,
            the engine points still run, with no engine.
        cluster: the cluster that it runs on; left out, the Ray cluster that this process is connected to.

    Returns:
        The settings that the engine was started with.

    Raises:
        HookLoadError: a hook at ``on_shutdown``, as nothing here is left to run it; one at
            ``on_engine_process_start``, or until then, without ``start_engine``.
        HookError: a hook in the replica failed.
        NodeInitializationError: one or more nodes failed; an ``ExceptionGroup`` of their errors.
        PlacementGroupError: the cluster cannot hold the placement group.
        EngineArgumentError: hooks set an argument that the engine cannot be given.
        Exception: whatever ``start_engine`` raised, unchanged.

    Example:
        >>> output = await initialize_node(config, start_engine=start)  # doctest: +SKIP
    """

    def refuse(run: Initialization) -> None:
        _refuse_shutdown(run)
        if start_engine is None:
            _refuse_without_engine(run)

    async with initialization(llm_config, cluster=cluster, on_begin=refuse) as run:
        run.engine = None if start_engine is None else await start_engine(run.ctx)
    return run.output


def _refuse_shutdown(run: Initialization) -> None:
    for hook in run.start.selection.hooks:
        if SHUTDOWN not in (hook.point, hook.options.until):
            continue
        what = f"{hook.ref} at on_shutdown can never run"
        if hook.point != SHUTDOWN:
            what = f"{hook.ref} at {hook.point}, with until='on_shutdown', can never be finished"
        raise HookLoadError(
            f"{what}: initialize_node() ends with the start, and gives nothing to shut down. Write `async with "
            "initialization(config) as run:`, start the engine in it, and `await run.shut_down(budget_s=...)` where "
            "your server stops."
        )


def _refuse_without_engine(run: Initialization) -> None:
    refuse_late(
        run.start.llm_config,
        "initialize_node() starts no engine here, so nobody would wait for the weights. Leave weights= out, or give it "
        "what starts vLLM: `await initialize_node(config, start_engine=my_start)`.",
    )
    for hook in run.start.selection.need_processes:
        never = "end" if hook.options.until else "run"
        raise HookLoadError(
            f"{in_words(hook)} can never {never}: initialize_node() starts no engine here. Give it what starts "
            "vLLM: `await initialize_node(config, start_engine=my_start)`, or write `async with initialization(config) "
            "as run:`, and start the engine in it."
        )


@asynccontextmanager
async def initialization(
    llm_config: Any,
    *,
    cluster: Cluster | None = None,
    hooks: HookRegistry | None = None,
    on_begin: Callable[[Initialization], object] | None = None,
) -> AsyncIterator[Initialization]:
    """Context-manager form of :func:`initialize_node`: start the engine inside the block.

    Args:
        llm_config: the deployment's config.
        cluster: the cluster that it runs on; left out, the Ray cluster that this process is connected to.
        hooks: the hooks to run, as far as they are for the model; left out, those of the config.
        on_begin: called before anything of the start happens, so that its trace is there when it fails.

    Raises:
        HookError, NodeInitializationError, PlacementGroupError, EngineArgumentError: as :func:`initialize_node`.

    Example:
        >>> async with initialization(config) as run:  # doctest: +SKIP
        ...     run.engine = await my_engine(**run.output.extra_init_kwargs)
        >>> await run.shut_down(budget_s=30)  # doctest: +SKIP
    """
    if cluster is None:
        from .ray import RayCluster  # from the package: without Ray, its error says what is missing

        cluster = RayCluster()
    async with initialize(llm_config, cluster, hooks, on_begin) as run:
        yield run
