"""Derive from a config what Ray would do without hooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serve_llm_hooks import DownloadMode
from serve_llm_hooks._replica.cluster import ReplicaDefaults
from serve_llm_hooks._sources.plan import error_policy

# With these load formats vLLM streams the weights from the bucket, and Ray downloads none.
_STREAMING = ("runai_streamer", "runai_streamer_sharded", "tensorizer")
_REMOTE = ("s3://", "gs://", "abfss://", "azure://", "pyarrow-")


def defaults_of(config: Any) -> ReplicaDefaults:
    """Return the defaults of a ``FakeLLMConfig``, or of a real ``LLMConfig``."""
    loading = getattr(config, "model_loading_config", None)
    source = config.model_source if loading is None else loading.model_source
    source_id = str(config.model_id)
    mirror: dict[str, Any] | None = None
    if isinstance(source, str):
        if source.startswith(_REMOTE):
            mirror = {"bucket_uri": source, "extra_files": []}
        else:
            source_id = source
    elif source is not None:
        mirror = {"bucket_uri": None, "extra_files": []}
        mirror.update(source if isinstance(source, Mapping) else source.model_dump())
    engine_kwargs = config.engine_kwargs
    streams = engine_kwargs.get("load_format") in _STREAMING
    runtime_env = config.runtime_env or {}
    return ReplicaDefaults(
        source_id=source_id,
        mirror=mirror,
        download_model=DownloadMode.NONE if streams else DownloadMode.MODEL_AND_TOKENIZER,
        runtime_env={**runtime_env, "env_vars": dict(runtime_env.get("env_vars") or {})},
        engine_workers=engine_kwargs.get("tensor_parallel_size", 1) * engine_kwargs.get("pipeline_parallel_size", 1),
        on_error=error_policy(config),
    )
