"""``SGLangCluster``: the port for SGLang, which Ray serves by a server class alone.

Ray's engine config is vLLM's: it imports vLLM, which need not be installed then, and refuses another engine's arguments
and placement. So this module reads the config itself. Ray's SGLang server passes ``engine_kwargs`` to its engine
unchanged, and so the decisions of hooks are written there.
"""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

from ray.util.placement_group import get_current_placement_group
from typing_extensions import override

from .._core.download_mode import DownloadMode
from .._core.errors import EngineArgumentError, HookLoadError, PlacementGroupError
from .._core.until import PROCESS_START
from .._replica.cluster import ReplicaDefaults
from .._replica.engine_args import SGLANG_PARALLEL, split_engine_kwargs
from .cluster import RayCluster

if TYPE_CHECKING:
    from .._core.context import CallbackCtx
    from .._process.task import ProcessTask


class SGLangCluster(RayCluster):
    """The Ray cluster for a replica whose engine takes ``engine_kwargs``, and nothing else of the config."""

    _given: ReplicaDefaults

    @override
    def defaults(self, llm_config: Any) -> ReplicaDefaults:
        """Return the settings of a start without any hook: only a model that lies in a bucket is downloaded."""
        from .internals import ENV_VARS_TO_PROPAGATE, STREAMING_LOAD_FORMATS, CloudMirrorConfig, is_remote_path

        source = llm_config.model_loading_config.model_source
        if isinstance(source, str) and is_remote_path(source):
            source = CloudMirrorConfig(bucket_uri=source)
        runtime_env = copy.deepcopy(llm_config.runtime_env or {})
        tokens = {name: os.environ[name] for name in ENV_VARS_TO_PROPAGATE if name in os.environ}
        runtime_env["env_vars"] = {**runtime_env.get("env_vars", {}), **tokens}
        kwargs = llm_config.engine_kwargs
        streams = kwargs.get("load_format") in STREAMING_LOAD_FORMATS
        defaults = ReplicaDefaults(
            source_id=source if isinstance(source, str) else llm_config.model_id,
            mirror=None if source is None or isinstance(source, str) else source.model_dump(),
            download_model=DownloadMode.NONE if streams else DownloadMode.MODEL_AND_TOKENIZER,
            placement_group=get_current_placement_group(),
            runtime_env=runtime_env,
            engine_workers=kwargs.get("tp_size", 1) * kwargs.get("pp_size", 1),
            on_error="raise" if llm_config.callback_config.raise_error_on_callback else "warn",
        )
        self._given = copy.deepcopy(defaults)  # hooks may change what is in them
        return defaults

    @override
    async def acquire_placement_group(self, llm_config: Any) -> Any:
        """Raise: Serve makes the group in which such an engine starts, and there is none.

        Raises:
            PlacementGroupError: the replica is in no group.
        """
        raise PlacementGroupError(
            f"model {llm_config.model_id!r}: this replica is in no placement group, and its engine starts in its "
            "replica's: deploy it with one of the builders, or with placement_group_bundles"
        )

    @override
    def open_processes(self, task: ProcessTask) -> None:
        """Raise: only vLLM calls hooks in its processes.

        Raises:
            HookLoadError: always.
        """
        ours = f"{task.hooks[0].ref} at {PROCESS_START}" if task.hooks else f"{task.waits_for}, until {PROCESS_START},"
        raise no_processes(ours, task.model_id)

    @override
    def configure_engine(self, llm_config: Any, ctx: CallbackCtx, *, path_by_hook: bool) -> None:
        """Write what hooks decided into ``engine_kwargs``.

        Raises:
            EngineArgumentError: a change that such an engine cannot be given.
        """
        for name in ("placement_group", "runtime_env"):
            if getattr(ctx, name) != getattr(self._given, name):
                raise EngineArgumentError(
                    f"ctx.{name} was changed by a hook, and this server's engine takes it from its replica: write it "
                    "into the config"
                )
        given = llm_config.engine_kwargs
        engine, _ = split_engine_kwargs(
            ctx.extra_init_kwargs, engine_names=None, frontend_names=(), current=given, parallel=SGLANG_PARALLEL
        )
        if ctx.model_path is not None and (path_by_hook or self._given.mirror is not None or "model_path" not in given):
            engine["model_path"] = ctx.model_path
        given.update(engine)


def no_processes(what: str, model_id: str) -> HookLoadError:
    """Return the error for a server whose engine is not vLLM's, and for what needs the processes of one that is.

    Args:
        what: the hook, in words.
        model_id: the model.
    """
    return HookLoadError(
        f"{what} is not possible: the server of model {model_id!r} starts its engine in its constructor, as Ray's "
        "SGLangServer does, and only vLLM's processes call hooks, or wait for them. Write on_before_engine_init "
        "instead, which runs in the replica, or leave server_cls out, which takes vLLM."
    )
