"""Import vLLM early in the process that Ray will build the engine's config in.

With a GPU, Ray builds the engine's config in a task of its own, whose process must import vLLM first. Ray's own node
initialization happens to leave such a process behind, idle; ours imports nothing and leaves none. So this module starts
a task with the same options, which only imports, and Ray gives its process to the config task. It begins when it is
imported in a replica, which is while Serve unpickles the server class, before the replica imports Ray Serve LLM.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from .._core.messages import one_line

if TYPE_CHECKING:
    from .._core.context import CallbackCtx
    from .._replica.cluster import ReplicaDefaults

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

PREWARM = "SERVE_LLM_HOOKS_PREWARM"
"""The environment variable that switches this off, with ``0``."""

_LIMIT_S = 60.0  # the config task does the work itself if the prewarm has not finished by then
_NUM_GPUS = 0.001  # as Ray's config task


class Prewarm:
    """The tasks that import vLLM, one on each node where the config task may run.

    Args:
        group: the replica's placement group.
        bundles: the index of one bundle on each node.
    """

    def __init__(self, group: Any, bundles: list[int]) -> None:
        """Submit the tasks."""
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        from .internals import ENV_VARS_TO_PROPAGATE

        # Ray reuses a process for the same runtime environment only, and compares how it is written: one that repeats
        # what the replica has is written anew, and one that adds nothing is not. So both tasks repeat all of it.
        own: dict[str, str] = ray.get_runtime_context().runtime_env.get("env_vars") or {}
        tokens = {name: os.environ[name] for name in ENV_VARS_TO_PROPAGATE if name in os.environ}
        self._env_vars: dict[str, str] = {**own, **tokens}
        self._group = group
        # num_gpus only in the options: Ray ends the process of a function that is declared with a GPU.
        remote = ray.remote(num_cpus=0, max_retries=0)(_import_engine)
        self._tasks = [
            remote.options(
                name="serve_llm_hooks:prewarm",
                num_gpus=_NUM_GPUS,
                runtime_env={"env_vars": self._env_vars},
                scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=bundle),
            ).remote()
            for bundle in bundles
        ]

    async def finish(self, defaults: ReplicaDefaults, ctx: CallbackCtx) -> dict[str, Any] | None:
        """Wait until the processes are warm: a config task that is submitted earlier gets a cold one.

        Args:
            defaults: the settings of the start without any hook.
            ctx: the settings that hooks decided. If they changed the runtime environment or the group, Ray cannot
                reuse the processes, and nothing is waited for.

        Returns:
            The runtime environment for the config task. It adds to that of ``ctx`` only what the replica has itself.
        """
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return ctx.runtime_env
        if ctx.runtime_env != defaults.runtime_env or ctx.placement_group != self._group:
            logger.debug("model %r: a hook changed runtime_env or the group; the prewarm is not used", ctx.model_id)
            return ctx.runtime_env
        try:
            await asyncio.wait_for(asyncio.gather(*map(_settled, tasks)), _LIMIT_S)
        except Exception as error:  # the config task then imports vLLM itself, and says what is wrong
            logger.debug("model %r: the prewarm failed: %s", ctx.model_id, one_line(error))
        runtime_env = ctx.runtime_env or {}
        return {**runtime_env, "env_vars": {**self._env_vars, **(runtime_env.get("env_vars") or {})}}


async def _settled(task: Any) -> None:
    await task


is_warm: bool = False
"""``True`` in a process in which a prewarm has imported vLLM."""


def _import_engine() -> None:
    from . import internals

    global is_warm
    internals.import_engine()
    is_warm = True


def begin() -> Prewarm | None:
    """Begin, if this is the process of a replica whose engine's config will be built on a GPU; else return ``None``."""
    if os.environ.get(PREWARM) == "0" or "ray" not in sys.modules:
        return None
    import ray
    from ray.util.placement_group import get_current_placement_group

    try:
        if not ray.is_initialized():
            return None
        if not (ray.get_runtime_context().get_actor_name() or "").startswith("SERVE_REPLICA::"):
            return None
        group = get_current_placement_group()
        bundles = _one_on_each_node(group) if group is not None else []
        return Prewarm(group, bundles) if bundles else None
    except Exception as error:  # it only saves time: nothing may fail with it
        logger.debug("the prewarm cannot begin: %s", one_line(error))
        return None


def _one_on_each_node(group: Any) -> list[int]:
    """Return the index of one bundle with a GPU on each node of a group."""
    import ray

    nodes: dict[int, str] = ray.util.placement_group_table(group)["bundles_to_node_id"]
    with_gpu = [index for index, bundle in enumerate(group.bundle_specs) if bundle.get("GPU")]
    return list({nodes[index]: index for index in reversed(with_gpu) if index in nodes}.values())


begun: Prewarm | None = begin()
"""The prewarm of this process."""


async def finish(defaults: ReplicaDefaults, ctx: CallbackCtx) -> dict[str, Any] | None:
    """Wait for this process's prewarm, if it has one; return the runtime environment for the config task."""
    return ctx.runtime_env if begun is None else await begun.finish(defaults, ctx)
