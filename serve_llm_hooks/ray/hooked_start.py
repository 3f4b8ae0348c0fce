"""The start of a hooked server, with its hooks around it. Only a replica imports this."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from .._observe.progress import Progress
from .._replica.initialize import initialize
from . import ahead, early_core, prewarm, replica_process, telemetry, unused
from .cluster import RayCluster
from .log import log_if_root_is_silenced, show_log

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AbstractAsyncContextManager

    from .._replica.initialize import Initialization


_OVER = "the start is over"


@asynccontextmanager
async def around_start(server: Any) -> AsyncIterator[None]:
    """Run the hooks of a server that starts its engine in ``start()``, which is awaited inside the block."""
    config = server._llm_config
    telemetry.ask_for_actor()
    try:
        async with _initialize(config, RayCluster()) as run:
            server._hook_trace = run.trace
            runtime_env = await prewarm.finish(run.start.defaults, run.ctx)
            early_core.begin(in_start=True)  # if it has not begun with the imports
            from . import engine_steps  # imported while nodes were at work
            from .hand_over import hand_over

            hand_over(config, run.ctx, runtime_env)
            with engine_steps.steps_in(run.trace):
                ahead.do_while_the_engine_starts()
                yield
            from . import adapters  # imported while the engine started

            run.engine, run.load_adapter = server.engine, adapters.loader_of(server)
            log_if_root_is_silenced(run)
    finally:
        prewarm.throw_away(_OVER)
        early_core.throw_away(_OVER)
    server._hook_run = run


@asynccontextmanager
async def around_constructor(server: Any, llm_config: Any) -> AsyncIterator[None]:
    """Run the hooks of a server that starts its engine in its constructor, which is called inside the block."""
    from .sglang import SGLangCluster

    prewarm.throw_away("the server starts its engine itself, so Ray builds no config for it")
    early_core.throw_away("the server's engine is not Ray's")
    if hasattr(server, "_hook_trace"):  # a subclass's constructor runs them already
        yield
        return
    async with _initialize(llm_config, SGLangCluster()) as run:
        server._hook_trace = run.trace
        yield
        run.engine = server.engine
        log_if_root_is_silenced(run)
    server._hook_run = run


def _initialize(llm_config: Any, cluster: RayCluster) -> AbstractAsyncContextManager[Initialization]:
    unused.start_begins()
    show_log()
    hooks = None  # those of a config of ours
    if not hasattr(llm_config, "hooks"):
        from .native_config import hooks_of_native_config

        with Progress(str(llm_config.model_id)) as progress, progress.waiting_for("its hooks to be imported"):
            hooks = hooks_of_native_config(llm_config)
    return initialize(llm_config, cluster, hooks, _begin)


def _begin(run: Initialization) -> None:
    replica_process.add_steps(run.trace)
    log_if_root_is_silenced(run)
