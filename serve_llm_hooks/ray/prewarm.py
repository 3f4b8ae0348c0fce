"""Import vLLM early in the process that Ray will build the engine's config in.

With a GPU, Ray builds the engine's config in a task of its own, whose process must import vLLM first. Ray's own node
initialization happens to leave such a process behind, idle; ours imports nothing and leaves none. So this module starts
a task that imports vLLM, keeps its process, and lets Ray give it to the config task. ``prewarmed`` begins it.

It only saves time: nothing fails with it, and what goes wrong is said at DEBUG.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .._core.context import CallbackCtx
    from .._replica.cluster import ReplicaDefaults

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

PREWARM = "SERVE_LLM_HOOKS_PREWARM"
"""The environment variable that switches this off, with ``0``."""

_LIMIT_S = 60.0  # the config task does the work itself if the prewarm has not finished by then
_OTHERS_S = 3.0  # how much longer the other nodes of the group may take: Ray prefers this one
_GPU_SHARE = "VLLM_RAY_PER_WORKER_GPUS"


class Prewarm:
    """The tasks that import vLLM, one for each place where the config task may land.

    Args:
        group: the replica's placement group.
        bundles: the indices of the bundles that the tasks run in.
    """

    def __init__(self, group: Any, bundles: Iterable[int]) -> None:
        """Submit the tasks."""
        import ray

        self._group = group
        self._replicas_own = dict(ray.get_runtime_context().runtime_env)
        # Ray reuses a process for the same runtime environment only, and compares how it is written: one that repeats
        # what the replica has is written anew, and one that adds nothing is not. So both tasks repeat all of it.
        self._env_vars: dict[str, str] = _with_rays_own(self._replicas_own.pop("env_vars", None) or {}, group)
        self._tasks = [self._submit(bundle) for bundle in bundles]

    async def finish(self, defaults: ReplicaDefaults, ctx: CallbackCtx) -> dict[str, Any] | None:
        """Wait until the processes are warm, and free: a config task that is submitted earlier gets a cold one.

        Args:
            defaults: the settings of the start without any hook.
            ctx: the settings that hooks decided.

        Returns:
            The runtime environment for the config task. It adds to that of ``ctx`` only what the replica has itself.
        """
        if not self._tasks:  # another start in this process has used them
            return ctx.runtime_env
        if ctx.runtime_env != defaults.runtime_env or ctx.placement_group != self._group:
            self.throw_away(f"model {ctx.model_id!r}: a hook changed runtime_env or the group")
            return ctx.runtime_env
        if not self._fits(ctx.runtime_env):
            self.throw_away(f"model {ctx.model_id!r}: the engine's runtime_env is not the replica's")
            return ctx.runtime_env
        await self._settle(ctx.model_id)
        runtime_env = ctx.runtime_env or {}
        return {**runtime_env, "env_vars": {**self._env_vars, **(runtime_env.get("env_vars") or {})}}

    def throw_away(self, why: str) -> None:
        """End the processes, and say why."""
        import ray

        if tasks := self._take():
            logger.debug("%s; the prewarm is not used", why)
        for task in tasks:
            ray.cancel(task, force=True)

    def _take(self) -> list[Any]:
        tasks, self._tasks = self._tasks, []
        return tasks

    async def _settle(self, model_id: str) -> None:
        """Let the tasks end, and wait for that; end the processes of those that take too long."""
        import ray

        tasks = self._take()
        waiting = [asyncio.ensure_future(_problem_of(task)) for task in tasks]
        try:
            await asyncio.wait(waiting[:1], timeout=_LIMIT_S)
            await asyncio.wait(waiting, timeout=_OTHERS_S)
        finally:  # a start that is cancelled leaves nothing either
            for task, waited in zip(tasks, waiting, strict=True):
                if not waited.done():
                    waited.cancel()
                    ray.cancel(task, force=True)
                    logger.debug("model %r: a prewarm takes too long, and is ended", model_id)
                elif problem := waited.result():  # the config task imports vLLM itself, and says what is wrong
                    logger.debug("model %r: the prewarm failed: %s", model_id, problem)

    def _fits(self, runtime_env: dict[str, Any] | None) -> bool:
        """Return True if a task with this runtime environment gets the same one as the prewarm."""
        from ray.runtime_env import RuntimeEnv

        given = dict(RuntimeEnv(**(runtime_env or {})))  # as Ray writes it: pip=["x"] becomes a dict
        env_vars = given.pop("env_vars", None) or {}
        return {**self._env_vars, **env_vars} == self._env_vars and all(
            name in self._replicas_own and self._replicas_own[name] == value for name, value in given.items()
        )

    def _submit(self, bundle: int) -> Any:
        """Start a task whose process Ray will give to its config task.

        It asks for no GPU, as that of Ray's node initialization does not: the GPUs are free for hooks, and for the
        engine's workers whatever becomes of it. And it does not end by itself: Ray may end an idle process after a
        second, or give it to somebody else. With this back pressure, it goes on when what it has yielded is read.
        """
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        remote = ray.remote(num_cpus=0, max_retries=0)(_import_engine)
        return remote.options(
            name="serve_llm_hooks:prewarm",
            num_returns="streaming",
            _generator_backpressure_num_objects=1,
            runtime_env={"env_vars": self._env_vars},
            scheduling_strategy=PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=bundle),
        ).remote()


async def _problem_of(task: Any) -> str:
    """Let a task end; return what went wrong."""
    from ray.exceptions import RayError

    try:
        async for item in task:
            await item
    except (RayError, Exception) as error:  # a RayError may be what it reports as well, a CancelledError say
        return one_line(error)
    return ""


is_warm: bool = False
"""``True`` in a process in which a prewarm has imported vLLM."""


def _import_engine() -> Iterator[None]:
    from . import internals, quick_imports

    global is_warm
    with quick_imports.quick_imports():
        internals.import_engine()
    is_warm = True
    yield


def _with_rays_own(env_vars: dict[str, str], group: Any) -> dict[str, str]:
    """Return variables with those that Ray will add for the engine."""
    from .internals import ENV_VARS_TO_PROPAGATE

    tokens = {name: os.environ[name] for name in ENV_VARS_TO_PROPAGATE if name in os.environ}
    gpus = next((bundle["GPU"] for bundle in group.bundle_specs if bundle.get("GPU")), 1)
    share = {_GPU_SHARE: str(gpus)} if gpus < 1 else {}
    return {**share, **env_vars, **tokens}


def one_line(error: BaseException) -> str:
    """Return an error's text, in one line."""
    from .._core import messages  # a replica imports this first of all, and seldom has anything to say

    return messages.one_line(error)


_begun: Prewarm | None = None


def begin() -> None:
    """Begin, if this is the process of a replica whose engine's config will be built on a GPU."""
    global _begun
    replica = replica_name()
    if _begun is not None or os.environ.get(PREWARM) == "0" or not replica:
        return
    from ray.util.placement_group import get_current_placement_group

    try:
        group = get_current_placement_group()
        bundles = [] if group is None else _places(group, replica)
        _begun = Prewarm(group, bundles) if bundles else None
    except Exception as error:
        logger.debug("the prewarm cannot begin: %s", one_line(error))


def replica_name() -> str:
    """Return the name of the replica whose process this is, or an empty text."""
    if "ray" not in sys.modules:
        return ""
    import ray

    try:
        context = ray.get_runtime_context() if ray.is_initialized() else None
        # Ray warns where a process that is no actor asks for its name.
        name = context.get_actor_name() if context is not None and context.get_actor_id() is not None else None
    except Exception as error:  # as everywhere here, nothing fails with it
        logger.debug("it cannot be told whether this is a replica: %s", one_line(error))
        return ""
    return name if name and name.startswith("SERVE_REPLICA::") else ""


def starts_engine() -> bool:
    """Return True if this replica's deployment is named as Ray names those with an engine: `LLMServer:m`, `Prefill:m`.

    Other replicas may import the same modules, where an app of one file has several deployments.
    """
    parts = replica_name().removeprefix("SERVE_REPLICA::").rsplit("#", 2)  # app, deployment, replica
    return len(parts) > 1 and ":" in parts[-2]


def _places(group: Any, replica: str) -> list[int]:
    """Return the index of a bundle with a GPU on each node of a replica's group, that on this node first.

    A replica that shares its group, as data-parallel ranks do, needs the first alone: Ray prefers this node, and the
    other ranks see to theirs.
    """
    import ray

    table = ray.util.placement_group_table(group)
    found: dict[str, int] = {}
    for index, bundle in sorted(table["bundles"].items()):
        if bundle.get("GPU"):
            found.setdefault(table["bundles_to_node_id"][index], index)
    here = ray.get_runtime_context().get_node_id()
    bundles = [index for node, index in sorted(found.items(), key=lambda item: item[0] != here)]
    return bundles if table["name"] == replica else bundles[:1]  # Serve gives a replica's own group its name


def is_at_work() -> bool:
    """Return True if this process has a prewarm that no start has waited for yet."""
    return _begun is not None and bool(_begun._tasks)


async def finish(defaults: ReplicaDefaults, ctx: CallbackCtx) -> dict[str, Any] | None:
    """Wait for this process's prewarm, if it has one; return the runtime environment for the config task."""
    if _begun is not None:
        try:
            return await _begun.finish(defaults, ctx)
        except Exception as error:
            logger.debug("model %r: the prewarm cannot be used: %s", ctx.model_id, one_line(error))
    return ctx.runtime_env


def throw_away(why: str) -> None:
    """End this process's prewarm, if it has one."""
    if _begun is not None:
        try:
            _begun.throw_away(why)
        except Exception as error:
            logger.debug("the prewarm cannot be ended: %s", one_line(error))
