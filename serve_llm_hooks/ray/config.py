"""``LLMConfig`` with ``hooks=[...]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, overload

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from ray.serve.llm import LLMConfig as _RayLLMConfig
from typing_extensions import deprecated, override

from .._core.hook import Hook
from .internals import CallbackBase, CallbackConfig

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._sources.entries import HookRef
    from .._sources.phase_style import Callback
    from .._sources.weights import Weights


class LLMConfig(_RayLLMConfig):
    """Ray's ``LLMConfig``, with hooks.

    It goes wherever Ray's goes: ``ray.serve.llm.build_openai_app``, ``build_llm_deployment``, ``serve.run``.

    Attributes:
        hooks: the hooks that run, each entry as :func:`serve_llm_hooks.load_hooks` takes it. ``None``: those that the
            running script itself decorated. ``[]``: none.
        callback: a class whose methods are named after hook points, its path, or an instance.
        callback_kwargs: the arguments of that class.
        callbacks: phase callbacks ``(phase, config, data)``, or their paths; ``None``: none.
        initialization_class: deprecated: a class with ``async initialize(llm_config)`` that replaces the whole
            initialization, or its path. ``initialization_kwargs``: the arguments of that class.
        weights: ``"late"``: the weights of a model in a bucket are downloaded while the engine's processes begin, whose
            workers wait for them. Left out: before.

    Args:
        model_id: shorthand for ``model_loading_config={"model_id": ...}``.

    Raises:
        HookLoadError: hooks that cannot be loaded. A module that this process does not have is no error when
            ``runtime_env`` brings code (``working_dir``, ``pip``, ``image_uri``, …), and a file that is not here is
            none when it brings files (``working_dir``, ``image_uri``, ``container``); the replica then checks them.

    Example:
        >>> LLMConfig(model_id="llama-2-7b", hooks=["my_company.llm_hooks"])  # doctest: +SKIP
    """

    # Its input holds env_vars, tokens and arguments of classes, and Serve shows its errors.
    model_config: ClassVar[ConfigDict] = ConfigDict(hide_input_in_errors=True, defer_build=True)

    hooks: list[Any] | None = None
    callback: Any = None
    callback_kwargs: dict[str, Any] = Field(default_factory=dict)
    callbacks: list[Any] | None = None
    initialization_class: Any = None
    initialization_kwargs: dict[str, Any] = Field(default_factory=dict)
    weights: Any = None

    if TYPE_CHECKING:
        server_cls: Any
        deployment_config: dict[str, Any]
        callback_config: CallbackConfig

        @overload
        @deprecated("write a class with on_custom_init, and on_before_init returning False: callback=YourClass")
        def __init__(
            self,
            *,
            initialization_class: str | type,
            initialization_kwargs: Mapping[str, Any] = ...,
            **fields: Any,
        ) -> None: ...
        @overload
        def __init__(
            self,
            *,
            hooks: Sequence[HookRef] | None = None,
            callback: str | type | object | None = None,
            callback_kwargs: Mapping[str, Any] = ...,
            callbacks: Sequence[str | Callback | type] | None = None,
            initialization_class: None = None,
            weights: Weights | None = None,
            model_id: str = ...,
            **rays_fields: Any,
        ) -> None: ...
        def __init__(self, **fields: Any) -> None:
            """Check the fields, and load the hooks."""

    # The hooks that the script had decorated when the config left its process; None while it is still there.
    _script_hooks: tuple[Hook, ...] | None = PrivateAttr(None)
    _warned_of_others: bool = PrivateAttr(False)

    @model_validator(mode="before")
    @classmethod
    def _accept_model_id(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        loading = data.get("model_loading_config")
        loading = {} if loading is None else loading
        if not isinstance(loading, dict | BaseModel):
            from .._core.messages import without_value

            raise ValueError(
                'model_loading_config= is a mapping, as in {"model_id": ..., "model_source": ...}, not '
                f"{without_value(loading)}"
            )
        if "model_id" not in data:
            return data
        data = dict(data)
        model_id = data.pop("model_id")
        loading = dict(loading if isinstance(loading, dict) else loading.model_dump())
        if loading.setdefault("model_id", model_id) != model_id:
            raise ValueError(
                f"model_id={model_id!r} and model_loading_config['model_id']={loading['model_id']!r} differ; give one"
            )
        data["model_loading_config"] = loading
        return data

    @field_validator("hooks", mode="before")
    @classmethod
    def _check_hooks_list(cls, value: Any) -> Any:
        from .._sources.lists import checked_hooks

        return checked_hooks(value)

    @field_validator("callbacks", mode="before")
    @classmethod
    def _check_callbacks_list(cls, value: Any) -> Any:
        from .._sources.lists import checked_list

        return checked_list(value)

    @model_validator(mode="after")
    def _take_over_native_hooks(self) -> LLMConfig:
        """Take the hooks of a config that was written for ``HooksCallback``; here they reach all points."""
        chosen = self.callback_config
        if chosen.callback_class is CallbackBase:
            return self
        from .._sources.select import hooks_of_script
        from .native_config import is_hooks_callback, named_hooks, no_hooks_named  # few configs have one

        if is_hooks_callback(chosen.callback_class):
            if self.hooks is not None:
                raise ValueError(
                    "hooks=[...] and HooksCallback in callback_config: give the hooks once, in hooks=[...]"
                )
            self.hooks = named_hooks(chosen.callback_kwargs)
            if self.hooks is None and not hooks_of_script(self.model_id):
                raise no_hooks_named(self.model_id, "the running script (__main__) has none for the model")
            self.callback_config = CallbackConfig(raise_error_on_callback=chosen.raise_error_on_callback)
        return self

    @model_validator(mode="after")
    def _hook_server_class(self) -> LLMConfig:
        if self.server_cls is None:
            from .server import LLMServer  # here: SGLang's replica gets this config too, and importing that begins

            self.server_cls = LLMServer
        else:
            from .hooked import hooked_server

            self.server_cls = hooked_server(self.server_cls)
        return self

    @model_validator(mode="after")
    def _check(self) -> LLMConfig:
        from . import config_checks

        config_checks.check(self)
        return self

    def callback_hooks(self) -> list[Hook]:
        """Return the hooks of ``callback_config``, ``initialization_class``, ``callback`` and ``callbacks``."""
        from .._sources.fields import hooks_of_fields

        if self.callback_config.callback_class is CallbackBase:
            return hooks_of_fields(self)
        from .rays_callbacks import hooks_of_rays_callback

        return [*hooks_of_rays_callback(self.callback_config), *hooks_of_fields(self)]

    def check_hooks(self) -> list[HookRef]:
        """Load all hooks, as far as this process can see them; return the entries of ``hooks`` that it sees.

        Raises:
            HookLoadError: they cannot be loaded.
            HookOrderError: an order that is impossible, or ambiguous.
        """
        from . import config_checks

        return config_checks.load(self)[0]

    @override
    def get_or_create_callback(self) -> Any:
        """Return the callback that Ray's engine asks for.

        Behind a server that is not ours, hooks run from it, up to the engine's start.
        """
        if self._callback_instance is None:
            from .hooks_callback import HooksCallback  # here, as above

            self._callback_instance = HooksCallback(
                llm_config=self, raise_error_on_callback=self.callback_config.raise_error_on_callback
            )
        return self._callback_instance

    @override
    def __getstate__(self) -> dict[Any, Any]:
        """Check the hooks, and return the fields with everything that they need where they run."""
        from . import config_checks
        from .config_pickling import state_of_decided, state_to_send

        state = super().__getstate__()
        if getattr(self._callback_instance, "is_decided", False):
            return state_of_decided(state)
        self.check_hooks()  # `config.hooks = [...]` is not validated where it is written
        others = self.callback_hooks() if config_checks.can_load(self, self.callback_hooks) else []
        return state_to_send(self, state, others)

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> LLMConfig:
        """Copy the config; the objects that its hooks are given as are shared.

        Ray copies a config for some of the connectors between prefill and decode.
        """
        from .config_pickling import given_objects

        memo = {} if memo is None else memo
        memo.update((id(given), given) for given in given_objects(self))
        copied: LLMConfig = super().__deepcopy__(memo)
        return copied
