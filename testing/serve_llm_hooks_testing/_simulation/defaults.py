"""Derive from a config what Ray would do without hooks."""

from __future__ import annotations

from typing import Any

from serve_llm_hooks import DownloadMode
from serve_llm_hooks._replica.cluster import ReplicaDefaults
from serve_llm_hooks._sources.plan import error_policy

from .engine_args import STREAMING
from .model_source import is_remote


def defaults_of(config: Any) -> ReplicaDefaults:
    """Return the defaults of a ``FakeLLMConfig``, or of a real ``LLMConfig``."""
    source = config.model_loading_config.model_source
    source_id = str(config.model_id)
    mirror: dict[str, Any] | None = None
    if isinstance(source, str):
        if is_remote(source):
            mirror = {"bucket_uri": source, "extra_files": []}
        else:
            source_id = source or source_id
    elif source is not None:
        mirror = source.model_dump()
    engine_kwargs = config.engine_kwargs
    streams = engine_kwargs.get("load_format") in STREAMING
    runtime_env = config.runtime_env or {}
    return ReplicaDefaults(
        source_id=source_id,
        mirror=mirror,
        download_model=DownloadMode.NONE if streams else DownloadMode.MODEL_AND_TOKENIZER,
        runtime_env={**runtime_env, "env_vars": dict(runtime_env.get("env_vars") or {})},
        engine_workers=engine_kwargs.get("tensor_parallel_size", 1) * engine_kwargs.get("pipeline_parallel_size", 1),
        on_error=error_policy(config),
    )
