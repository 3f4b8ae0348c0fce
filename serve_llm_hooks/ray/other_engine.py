"""Engines that Ray's ``LLMConfig`` knows nothing of: SGLang, which Ray serves by a server class alone.

Ray's engine config is vLLM's and refuses other engines' arguments, and Ray's SGLang server gives ``engine_kwargs`` to
its engine as they are. So what a start needs of a config is read without them, and what hooks decide is written there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..engine_args import split_engine_kwargs
from ..errors import EngineArgumentError
from .cluster import RayCluster

if TYPE_CHECKING:
    from ..cluster import ReplicaDefaults
    from ..context import CallbackCtx

__all__ = ["OtherEngineCluster"]

_PARALLEL = ("tp_size", "pp_size", "dp_size", "ep_size", "nnodes")


class OtherEngineCluster(RayCluster):
    """The same cluster for a replica whose engine takes ``engine_kwargs``, and nothing else of the config."""

    def defaults(self, llm_config: Any) -> ReplicaDefaults:
        """What Ray itself would do."""
        sizes = [llm_config.engine_kwargs.get(name, 1) for name in ("tp_size", "pp_size")]
        return replace(super().defaults(_without_engine_kwargs(llm_config)), engine_workers=sizes[0] * sizes[1])

    async def acquire_placement_group(self, llm_config: Any) -> Any:
        """The group that the replica runs in, or a new one as Ray would make it."""
        return await super().acquire_placement_group(_without_engine_kwargs(llm_config))

    def configure_engine(self, llm_config: Any, ctx: CallbackCtx, *, path_by_hook: bool) -> None:
        """Write what hooks decided into ``engine_kwargs``.

        Raises:
            EngineArgumentError: what cannot be handed to such an engine.
        """
        theirs = self.defaults(llm_config)
        for name in ("placement_group", "runtime_env"):
            if theirs.placement_group is not None and getattr(ctx, name) != getattr(theirs, name):
                raise EngineArgumentError(
                    f"ctx.{name} was changed by a hook, and this server's engine takes it from its replica: write it "
                    "into the config"
                )
        given = llm_config.engine_kwargs
        engine, _ = split_engine_kwargs(
            ctx.extra_init_kwargs, engine_names=None, frontend_names=(), current=given, parallel=_PARALLEL
        )
        if ctx.model_path is not None and (path_by_hook or theirs.mirror is not None or "model_path" not in given):
            engine["model_path"] = ctx.model_path
        given.update(engine)


def _without_engine_kwargs(llm_config: Any) -> Any:
    bare = llm_config.model_copy(update={"engine_kwargs": {}})
    bare._engine_config = None
    return bare
