"""``LLMConfig`` with ``hooks=[...]``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, overload

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, field_validator, model_validator
from ray.serve.llm import LLMConfig as _RayLLMConfig
from typing_extensions import deprecated, override

from .._core.errors import HookLoadError
from .._core.hook import Hook
from .._core.messages import without_value
from .._core.until import in_words
from .._process.payload import check_config, need_processes
from .._sources.entries import hooks_of_entries, load_hooks
from .._sources.fields import hooks_of_fields, warn_of_initialization_class
from .._sources.lists import checked_hooks, checked_list
from .._sources.select import check_together, hooks_of_script, warn_of_unmatched
from .._sources.weights import check_weights
from . import internals
from .config_pickling import given_objects, state_of_decided, state_to_send
from .hooked import hooked_server, starts_in_constructor
from .internals import CallbackBase, CallbackConfig, is_remote_path
from .shutdown import warn_of_slow_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .._sources.entries import HookRef
    from .._sources.phase_style import Callback
    from .._sources.weights import Weights


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

# The keys of a runtime_env that may bring a file that this process does not have, and those that may bring a module.
_BRINGS_FILES = ("working_dir", "image_uri", "container")
_BRINGS_MODULES = (*_BRINGS_FILES, "py_modules", "pip", "uv", "conda")


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
        return checked_hooks(value)

    @field_validator("callbacks", mode="before")
    @classmethod
    def _check_callbacks_list(cls, value: Any) -> Any:
        return checked_list(value)

    @model_validator(mode="after")
    def _take_over_native_hooks(self) -> LLMConfig:
        """Take the hooks of a config that was written for ``HooksCallback``; here they reach all points."""
        chosen = self.callback_config
        if chosen.callback_class is CallbackBase:
            return self
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
            self.server_cls = hooked_server(self.server_cls)
        return self

    @model_validator(mode="after")
    def _check_hooks(self) -> LLMConfig:
        here, loaded = self._checked_hooks()
        warn_of_unmatched(here, self.model_id)
        warn_of_slow_hooks(loaded, self.model_id, self.deployment_config)
        check_config(loaded, self)
        self._check_weights()
        if (ours := need_processes(loaded, self.model_id)) and starts_in_constructor(self.server_cls):
            from .sglang import no_processes

            raise no_processes(in_words(ours[0]), self.model_id)
        warn_of_initialization_class(self, stacklevel=3)
        return self

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        source = self.model_loading_config.model_source
        given = self.engine_kwargs.get("load_format")
        check_weights(
            self.weights,
            model_id=self.model_id,
            has_bucket=is_remote_path(source) if isinstance(source, str) else bool(source and source.bucket_uri),
            streaming_format=given if given is not None and given in internals.STREAMING_LOAD_FORMATS else None,
            is_vllm=not starts_in_constructor(self.server_cls),
        )

    def callback_hooks(self) -> list[Hook]:
        """Return the hooks of ``callback_config``, ``initialization_class``, ``callback`` and ``callbacks``."""
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
        return self._checked_hooks()[0]

    def _checked_hooks(self) -> tuple[list[HookRef], list[Hook]]:
        """Return the entries of ``hooks`` that this process sees, and all hooks that it sees."""
        here = [ref for ref in self.hooks or () if self._can_load(hooks_of_entries, [ref])]
        loaded = [*load_hooks(*here)]  # together: a circle between modules, parameters given for another entry's hook
        if self._can_load(self.callback_hooks):
            loaded = [*self.callback_hooks(), *loaded]
            check_together(loaded, self)
        return here, loaded

    def _can_load(self, load: Callable[..., object], *args: Any) -> bool:
        """Return True if hooks can be loaded here; False if that is left to the replica, which may have more code."""
        try:
            load(*args)
        except HookLoadError as error:
            keys = {ModuleNotFoundError: _BRINGS_MODULES, FileNotFoundError: _BRINGS_FILES}.get(
                type(error.__cause__), ()
            )
            if not any(_brings_something((self.runtime_env or {}).get(key)) for key in keys):
                raise
            logger.info("model %r: left to the replica, which may have what is shipped: %s", self.model_id, error)
            return False
        return True

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
        state = super().__getstate__()
        if getattr(self._callback_instance, "is_decided", False):
            return state_of_decided(state)
        self.check_hooks()  # `config.hooks = [...]` is not validated where it is written
        return state_to_send(self, state, self.callback_hooks() if self._can_load(self.callback_hooks) else [])

    @override
    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> LLMConfig:
        """Copy the config; the objects that its hooks are given as are shared.

        Ray copies a config for some of the connectors between prefill and decode.
        """
        memo = {} if memo is None else memo
        memo.update((id(given), given) for given in given_objects(self))
        copied: LLMConfig = super().__deepcopy__(memo)
        return copied


def _brings_something(value: object) -> bool:
    """Return False for a value of a runtime_env that is empty, or holds nothing but what is."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, dict):
        return any(map(_brings_something, value.values()))
    return any(map(_brings_something, value)) if isinstance(value, list | tuple) else value is not None
