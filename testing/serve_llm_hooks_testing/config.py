"""``FakeLLMConfig``: the config of a replica on a fake cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import load_hooks
from serve_llm_hooks._core.messages import describe, kind_of
from serve_llm_hooks._core.seconds import check_seconds
from serve_llm_hooks._process.payload import check_config
from serve_llm_hooks._replica.shutdown import SERVE_DEFAULTS_S
from serve_llm_hooks._sources.class_style import checked_kwargs
from serve_llm_hooks._sources.fields import errors_of_field, hooks_of_fields, warn_of_initialization_class
from serve_llm_hooks._sources.lists import checked_hooks, checked_list
from serve_llm_hooks._sources.select import check_together, warn_of_unmatched
from serve_llm_hooks._sources.weights import check_weights

from ._simulation.accelerators import FakeAccelerator, accelerator_of, checked_group
from ._simulation.adapters import FakeLoraConfig, lora_config_of
from ._simulation.engine_args import STREAMING
from ._simulation.model_source import FakeModelLoadingConfig, is_remote, loading_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve_llm_hooks import Callback, Hook
    from serve_llm_hooks._core.options import OnError
    from serve_llm_hooks._sources.weights import Weights


DEFAULT_SOURCE = "s3://fake-models"


@dataclass(repr=False)
class FakeLLMConfig:
    """A substitute for Ray's ``LLMConfig``: those of its fields that matter before the engine runs.

    Args:
        model_id: the model's id, as clients use it.
        hooks: the hooks that run, each entry as :func:`serve_llm_hooks.load_hooks` takes it. ``None``: those that the
            running script itself defines (under pytest: none). ``[]``: none.
        callback: a class whose methods are named after hook points, its path, or an instance.
        callback_kwargs: the arguments of the class.
        callbacks: phase functions ``(phase, config, data)`` or their paths. ``None``: none.
        initialization_class: deprecated: a class with ``async initialize(llm_config)``, or its path.
        initialization_kwargs: its arguments.
        model_source: as in Ray's ``model_loading_config``: a Hugging Face id, a folder, a bucket (``"s3://..."``), a
            mapping with ``bucket_uri`` and ``extra_files``, or ``None`` if ``model_id`` is the Hugging Face id. The
            default is a bucket, unlike Ray's, so that there is something to download.
        model_loading_config: the same as Ray's config takes it: ``{"model_id": ..., "model_source": ...}``.
        engine_kwargs: the engine's arguments.
        runtime_env: the runtime environment of node tasks and engine workers.
        accelerator_type, accelerator_config: what the engine runs on; a GPU, unless they or the bundles say otherwise.
        placement_group_config: the bundles and the strategy of the placement group.
        deployment_config: Serve's settings; here they say how long hooks at ``on_shutdown`` have.
        log_engine_metrics: as in Ray's config.
        lora_config: where LoRA adapters are, as in Ray's config.
        on_error: what happens when a hook fails that does not say so itself.
        weights: ``"late"``: the weights are downloaded while the engine's processes begin, as with ``LLMConfig``.

    Raises:
        HookLoadError: a hook cannot be loaded, as raised by ``LLMConfig``.
        HookOrderError: an order of hooks is impossible or ambiguous.
        TypeError, ValueError: a field has a value of the wrong kind, or one that Ray's config refuses.

    Example:
        >>> config = FakeLLMConfig("llama-2-7b", hooks=[], engine_kwargs={"max_model_len": 4096})
        >>> config.model_loading_config.model_source
        's3://fake-models'
    """

    model_loading_config: FakeModelLoadingConfig
    hooks: list[Any] | None = None
    callback: Any = None
    callback_kwargs: dict[str, Any] = field(default_factory=dict)
    callbacks: list[Any] | None = None
    initialization_class: Any = None
    initialization_kwargs: dict[str, Any] = field(default_factory=dict)
    engine_kwargs: dict[str, Any] = field(default_factory=dict)
    runtime_env: dict[str, Any] | None = None
    accelerator_type: str | None = None
    accelerator_config: FakeAccelerator = field(default_factory=lambda: FakeAccelerator("gpu"))
    placement_group_config: dict[str, Any] | None = None
    deployment_config: dict[str, Any] = field(default_factory=dict)
    log_engine_metrics: bool | None = True
    lora_config: FakeLoraConfig | None = None
    on_error: OnError = "raise"
    weights: Weights | None = None

    def __init__(
        self,
        model_id: str | None = None,
        hooks: Sequence[Any] | None = None,
        *,
        callback: str | type | object | None = None,
        callback_kwargs: Mapping[str, Any] | None = None,
        callbacks: Sequence[str | Callback | type] | None = None,
        initialization_class: str | type | None = None,
        initialization_kwargs: Mapping[str, Any] | None = None,
        model_source: str | Mapping[str, Any] | None = DEFAULT_SOURCE,
        model_loading_config: Mapping[str, Any] | None = None,
        engine_kwargs: Mapping[str, Any] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        accelerator_type: str | None = None,
        accelerator_config: Mapping[str, Any] | None = None,
        placement_group_config: Mapping[str, Any] | None = None,
        deployment_config: Mapping[str, Any] | None = None,
        log_engine_metrics: bool | None = True,
        lora_config: Mapping[str, Any] | None = None,
        on_error: OnError = "raise",
        weights: Weights | None = None,
    ) -> None:
        """Check the fields, and load the hooks to see that they can be."""
        if on_error not in ("raise", "warn"):
            raise ValueError(f"on_error= is 'raise' or 'warn', not {describe(on_error)}")
        self.model_loading_config = loading_of(
            model_id, model_source, model_loading_config, has_source=model_source != DEFAULT_SOURCE
        )
        self.hooks = checked_hooks(hooks)
        self.callback = callback
        self.callback_kwargs = _named("callback_kwargs", callback_kwargs)
        self.callbacks = checked_list(callbacks)
        self.initialization_class = initialization_class
        self.initialization_kwargs = _named("initialization_kwargs", initialization_kwargs)
        self.engine_kwargs = _named("engine_kwargs", engine_kwargs)
        for name in ("tensor_parallel_size", "pipeline_parallel_size"):
            size = self.engine_kwargs.get(name, 1)
            if type(size) is not int or size < 1:
                raise TypeError(f"engine_kwargs[{name!r}] must be a whole number, 1 or more, not {describe(size)}")
        self.runtime_env = None if runtime_env is None else _named("runtime_env", runtime_env)
        variables = _named("runtime_env['env_vars']", (self.runtime_env or {}).get("env_vars"))
        for name, value in variables.items():
            if not isinstance(value, str):
                raise TypeError(f"runtime_env['env_vars'][{name!r}] must be a string, not {kind_of(value)}")
        self.log_engine_metrics = log_engine_metrics
        if log_engine_metrics and self.engine_kwargs.get("disable_log_stats"):
            raise ValueError(
                "disable_log_stats cannot be set to True when log_engine_metrics is enabled. Engine metrics require "
                "log stats to be enabled."
            )
        self.lora_config = lora_config_of(lora_config)
        self.accelerator_type = accelerator_type
        self.deployment_config = _named("deployment_config", deployment_config)
        for name in SERVE_DEFAULTS_S:
            if type(seconds := self.deployment_config.get(name)) in (int, float):  # Serve reads numbers out of texts
                check_seconds(f"deployment_config[{name!r}]", seconds, zero=True)
        self.placement_group_config = checked_group(placement_group_config)
        self.accelerator_config = accelerator_of(accelerator_config, accelerator_type, self.placement_group_config)
        self.on_error = on_error
        self.weights = weights
        source, load_format = self.model_loading_config.model_source, self.engine_kwargs.get("load_format")
        check_weights(
            weights,
            model_id=self.model_id,
            has_bucket=is_remote(source) if isinstance(source, str) else bool(source and source.bucket_uri),
            streaming_format=load_format if load_format in STREAMING else None,
        )
        with errors_of_field("hooks"):
            loaded = load_hooks(*(self.hooks or ()))
        check_together(together := [*self.callback_hooks(), *loaded], self)
        check_config(together, self)
        warn_of_unmatched(self.hooks or (), self.model_id)
        warn_of_initialization_class(self, stacklevel=2)

    @property
    def model_id(self) -> str:
        """The model's id, as clients use it."""
        return self.model_loading_config.model_id

    def __repr__(self) -> str:
        """Name the model; the fields hold secrets."""
        return f"<FakeLLMConfig of model {self.model_id!r}>"

    def callback_hooks(self) -> list[Hook]:
        """Return the hooks of ``initialization_class``, ``callback`` and ``callbacks``."""
        return hooks_of_fields(self)


def _named(field_name: str, value: object) -> dict[str, Any]:
    """Return a field that is a mapping with string keys; empty for ``None``."""
    return dict(checked_kwargs({} if value is None else value, f"{field_name}=", TypeError))
