"""``FakeLLMConfig``: what a fake cluster is asked to serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import DownloadMode, HookLoadError, load_hooks
from serve_llm_hooks._replica.cluster import ReplicaDefaults
from serve_llm_hooks._sources.phase_style import checked_list
from serve_llm_hooks._sources.replace_style import warn_of_initialization_class
from serve_llm_hooks._sources.select import check_together, hooks_of_fields, tell_unmatched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks import Callback, Hook
    from serve_llm_hooks._core.options import OnError

__all__ = ["FakeLLMConfig", "defaults_of"]

# Ray downloads no weights when vLLM streams them from the bucket itself.
_STREAMING = ("runai_streamer", "runai_streamer_sharded", "tensorizer")
_REMOTE = ("s3://", "gs://", "abfss://", "azure://", "pyarrow-")


@dataclass
class FakeLLMConfig:
    """An ``LLMConfig`` that needs no Ray: its fields that matter before the engine runs.

    Args:
        model_id: the model's id, as clients name it.
        hooks: what runs, each entry as :func:`serve_llm_hooks.load_hooks` takes it. ``None``: what the running script
            itself decorated (under pytest: nothing). ``[]``: nothing.
        callback: a class whose methods are named after hook points, its path, or an instance.
        callback_kwargs: what the class is made with.
        callbacks: phase functions ``(phase, config, data)``, or their paths; ``None``: none.
        initialization_class: deprecated: a class with ``async initialize(llm_config)``, or its path.
        initialization_kwargs: what it is made with.
        model_source: as in Ray's ``model_loading_config``: a Hugging Face id, a folder, a bucket (``"s3://..."``), a
            mapping with ``bucket_uri`` and ``extra_files``, or ``None``: ``model_id`` is the Hugging Face id. Unlike
            there, it starts as a bucket, so that there is something to download.
        engine_kwargs: the engine's arguments.
        runtime_env: the runtime environment of node tasks and engine workers.
        on_error: what a failing hook does that does not say so itself.

    Raises:
        HookLoadError: hooks that cannot be loaded; told here, as ``LLMConfig`` tells it.
        HookOrderError: an order that is impossible, or ambiguous.
        TypeError, ValueError: a field of the wrong kind.

    Example:
        >>> config = FakeLLMConfig("llama-2-7b", hooks=[], engine_kwargs={"max_model_len": 4096})
        >>> config.model_source
        's3://fake-models'
    """

    model_id: str
    hooks: list[Any] | None = None
    callback: Any = None
    callback_kwargs: dict[str, Any] = field(default_factory=dict)
    callbacks: list[Any] | None = None
    initialization_class: Any = None
    initialization_kwargs: dict[str, Any] = field(default_factory=dict)
    model_source: str | Mapping[str, Any] | None = "s3://fake-models"
    engine_kwargs: dict[str, Any] = field(default_factory=dict)
    runtime_env: dict[str, Any] | None = None
    on_error: OnError = "raise"

    def __init__(
        self,
        model_id: str,
        hooks: Sequence[Any] | None = None,
        *,
        callback: str | type | object | None = None,
        callback_kwargs: Mapping[str, Any] | None = None,
        callbacks: Sequence[str | Callback | type] | None = None,
        initialization_class: str | type | None = None,
        initialization_kwargs: Mapping[str, Any] | None = None,
        model_source: str | Mapping[str, Any] | None = "s3://fake-models",
        engine_kwargs: Mapping[str, Any] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        on_error: OnError = "raise",
    ) -> None:
        if not _is_text(model_id):
            raise ValueError(f"model_id is the model's name, not {model_id!r}")
        if hooks is not None and not isinstance(hooks, list | tuple):
            raise HookLoadError(f"hooks= is a list, as in hooks=['my_company.llm_hooks'], not {hooks!r}")
        if on_error not in ("raise", "warn"):
            raise ValueError(f"on_error= is 'raise' or 'warn', not {on_error!r}")
        self.model_id = model_id
        self.hooks = None if hooks is None else list(hooks)
        self.callback = callback
        self.callback_kwargs = dict(callback_kwargs or {})
        self.callbacks = checked_list(callbacks)
        self.initialization_class = initialization_class
        self.initialization_kwargs = dict(initialization_kwargs or {})
        self.model_source = model_source
        self.engine_kwargs = dict(engine_kwargs or {})
        self.runtime_env = None if runtime_env is None else dict(runtime_env)
        self.on_error = on_error
        loaded = load_hooks(*(self.hooks or ()))
        check_together([*self.callback_hooks(), *loaded], model_id)
        tell_unmatched(self.hooks or (), model_id)
        warn_of_initialization_class(self, stacklevel=2)

    def callback_hooks(self) -> list[Hook]:
        """The hooks that ``initialization_class``, ``callback`` and ``callbacks`` come to."""
        return hooks_of_fields(self)


def defaults_of(config: Any) -> ReplicaDefaults:
    """What a replica would do without any hook: of a fake config, or of a real one."""
    loading = getattr(config, "model_loading_config", None)
    source = config.model_source if loading is None else loading.model_source
    engine_kwargs = config.engine_kwargs
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
    streams = engine_kwargs.get("load_format") in _STREAMING
    callback = getattr(config, "callback_config", None)
    on_error: OnError = getattr(config, "on_error", "raise")
    if callback is not None and not callback.raise_error_on_callback:
        on_error = "warn"
    return ReplicaDefaults(
        source_id=source_id,
        mirror=mirror,
        download_model=DownloadMode.NONE if streams else DownloadMode.MODEL_AND_TOKENIZER,
        runtime_env={**(config.runtime_env or {}), "env_vars": dict((config.runtime_env or {}).get("env_vars", {}))},
        engine_workers=(engine_kwargs.get("tensor_parallel_size", 1) * engine_kwargs.get("pipeline_parallel_size", 1)),
        on_error=on_error,
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""
