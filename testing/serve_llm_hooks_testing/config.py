"""``FakeLLMConfig``: what a fake cluster is asked to serve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import DownloadMode, HookLoadError, load_hooks
from serve_llm_hooks._core.text import describe
from serve_llm_hooks._replica.cluster import ReplicaDefaults
from serve_llm_hooks._sources.phase_style import checked_list
from serve_llm_hooks._sources.replace_style import warn_of_initialization_class
from serve_llm_hooks._sources.select import check_together, hooks_of_fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serve_llm_hooks import Callback, Hook
    from serve_llm_hooks._core.options import OnError

__all__ = ["FakeLLMConfig", "defaults_of"]

_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size")
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
            raise ValueError(f"model_id is the model's name, not {describe(model_id)}")
        if hooks is not None and not isinstance(hooks, list | tuple):
            raise HookLoadError(f"hooks= is a list, as in hooks=['my_company.llm_hooks'], not {describe(hooks)}")
        if on_error not in ("raise", "warn"):
            raise ValueError(f"on_error= is 'raise' or 'warn', not {describe(on_error)}")
        self.model_id = model_id
        self.hooks = None if hooks is None else list(hooks)
        self.callback = callback
        self.callback_kwargs = _named("callback_kwargs", callback_kwargs)
        self.callbacks = checked_list(callbacks)
        self.initialization_class = initialization_class
        self.initialization_kwargs = _named("initialization_kwargs", initialization_kwargs)
        self.model_source = _source(model_source)
        self.engine_kwargs = _named("engine_kwargs", engine_kwargs)
        for name in _PARALLEL:
            size = self.engine_kwargs.get(name, 1)
            if type(size) is not int or size < 1:
                raise TypeError(f"engine_kwargs[{name!r}] is a whole number, 1 or more, not {describe(size)}")
        self.runtime_env = None if runtime_env is None else _named("runtime_env", runtime_env)
        variables = _named("runtime_env['env_vars']", (self.runtime_env or {}).get("env_vars"))
        for name, value in variables.items():
            if not isinstance(value, str):
                raise TypeError(f"runtime_env['env_vars'][{name!r}] is a string, not a {type(value).__name__}")
        self.on_error = on_error
        loaded = load_hooks(*(self.hooks or ()))
        check_together([*self.callback_hooks(), *loaded], model_id)
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
        runtime_env={**(config.runtime_env or {}), "env_vars": dict((config.runtime_env or {}).get("env_vars") or {})},
        engine_workers=prod(engine_kwargs.get(name, 1) for name in _PARALLEL),
        on_error=on_error,
    )


def _named(field_name: str, value: object) -> dict[str, Any]:
    """A field that is a mapping with string keys; empty for ``None``."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{field_name}= is a mapping, from names to values, not {describe(value)}")
    for name in value or ():
        if not isinstance(name, str):
            raise TypeError(f"{field_name}= is a mapping whose keys are names, as strings, and not {describe(name)}")
    return dict(value or {})


def _source(value: Any) -> Any:
    """A model's source, as Ray's config takes it."""
    if value is None or isinstance(value, str | Mapping) or hasattr(type(value), "model_dump"):
        return value
    raise TypeError(
        "model_source= is a Hugging Face id, a folder, a bucket ('s3://...'), a mapping with bucket_uri, or None, not "
        f"{describe(value)}"
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""
