"""``LLMConfig`` with ``hooks=[...]``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pydantic import Field, PrivateAttr, field_validator, model_validator
from ray.serve.llm import LLMConfig as _RayLLMConfig

from ..callbacks import listed
from ..errors import HookLoadError
from ..loading import (
    callback_field_hooks,
    check_together,
    find_hooks,
    load_hooks,
    script_hooks,
    warn_of_old_ways,
)
from ..node import pack_hooks
from ..policy import source_of
from ..registry import Hook, registry
from .callback import HooksCallback, named_hooks, names_hooks_callback, no_hooks_named, ray_callback_hooks
from .internals import CallbackConfig
from .server import LLMServer, hooked_server, is_hooked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ..callbacks import Callback
    from ..loading import HookRef

__all__ = ["LLMConfig"]

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

# What of a runtime_env may bring a module that this process does not have.
_BRINGS_CODE = ("working_dir", "py_modules", "pip", "uv", "conda", "image_uri", "container")

# The fields that bring hooks, as they are without any.
_NO_HOOKS: dict[str, Any] = {
    "hooks": [],
    "callback": None,
    "callback_kwargs": {},
    "callbacks": None,
    "initialization_class": None,
    "initialization_kwargs": {},
}


class LLMConfig(_RayLLMConfig):
    """Ray's ``LLMConfig``, with hooks.

    It goes wherever Ray's goes: ``ray.serve.llm.build_openai_app``, ``build_llm_deployment``, ``serve.run``.

    Attributes:
        hooks: what runs, each entry as :func:`serve_llm_hooks.load_hooks` takes it. ``None``: what the running script
            itself decorated. ``[]``: nothing.
        callback: a class whose methods are named after hook points, its path, or an instance.
        callback_kwargs: what the class is made with.
        callbacks: phase functions ``(phase, config, data)``, or their paths; ``None``: none.
        initialization_class: deprecated: a class with ``async initialize(llm_config)`` that replaces the whole
            initialization, or its path. ``initialization_kwargs``: what it is made with.

    Args:
        model_id: shorthand for ``model_loading_config={"model_id": ...}``.

    Raises:
        HookLoadError: hooks that cannot be loaded. A module that this process does not have is let through when
            ``runtime_env`` brings code (``working_dir``, ``pip``, ``image_uri``, …); the replica then says so.

    Example:
        >>> LLMConfig(model_id="llama-2-7b", hooks=["my_company.llm_hooks"])  # doctest: +SKIP
    """

    hooks: list[Any] | None = None
    callback: Any = None
    callback_kwargs: dict[str, Any] = Field(default_factory=dict)
    callbacks: list[Any] | None = None
    initialization_class: Any = None
    initialization_kwargs: dict[str, Any] = Field(default_factory=dict)

    if TYPE_CHECKING:
        server_cls: Any
        callback_config: CallbackConfig

        def __init__(
            self,
            *,
            hooks: Sequence[HookRef] | None = None,
            callback: str | type | object | None = None,
            callback_kwargs: Mapping[str, Any] = ...,
            callbacks: Sequence[str | Callback | type] | None = None,
            initialization_class: str | type | None = None,
            initialization_kwargs: Mapping[str, Any] = ...,
            model_id: str = ...,
            **rays_fields: Any,
        ) -> None: ...

    # What the script had decorated when the config left its process; None while it is still there.
    _script_hooks: tuple[Hook, ...] | None = PrivateAttr(None)
    _others_told: bool = PrivateAttr(False)

    @model_validator(mode="before")
    @classmethod
    def _accept_model_id(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "model_id" not in data:
            return data
        data = dict(data)
        model_id = data.pop("model_id")
        loading = data.get("model_loading_config") or {}
        loading = dict(loading if isinstance(loading, dict) else loading.model_dump())
        if loading.setdefault("model_id", model_id) != model_id:
            raise ValueError(
                f"model_id={model_id!r} and model_loading_config['model_id']={loading['model_id']!r} differ; give one"
            )
        data["model_loading_config"] = loading
        return data

    @field_validator("hooks", mode="before")
    @classmethod
    def _be_a_list(cls, value: Any) -> Any:
        if value is None or isinstance(value, list):
            return value
        if isinstance(value, tuple):
            return list(value)
        raise HookLoadError(f"hooks= is a list, as in hooks=['my_company.llm_hooks'], not {value!r}")

    @field_validator("callbacks", mode="before")
    @classmethod
    def _be_a_list_too(cls, value: Any) -> Any:
        return listed(value)

    @model_validator(mode="after")
    def _take_over_native_hooks(self) -> LLMConfig:
        """A config that was written for ``HooksCallback`` means the same hooks here, and all points are in reach."""
        chosen = self.callback_config
        if names_hooks_callback(chosen.callback_class):
            if self.hooks is not None:
                raise ValueError(
                    "hooks=[...] and HooksCallback in callback_config: give the hooks once, in hooks=[...]"
                )
            self.hooks = named_hooks(chosen.callback_kwargs)
            if self.hooks is None and not any(hook.options.matches(self.model_id) for hook in script_hooks()):
                raise no_hooks_named(self.model_id, "the running script (__main__) has none for the model")
            self.callback_config = CallbackConfig(raise_error_on_callback=chosen.raise_error_on_callback)
        return self

    @model_validator(mode="after")
    def _check_hooks(self) -> LLMConfig:
        self.check_hooks()
        warn_of_old_ways(self, stacklevel=3)
        return self

    def callback_hooks(self) -> list[Hook]:
        """The hooks that ``callback_config``, ``initialization_class``, ``callback`` and ``callbacks`` come to."""
        return [*ray_callback_hooks(self.callback_config), *callback_field_hooks(self)]

    def check_hooks(self) -> None:
        """Load all hooks, as far as this process can see them.

        Raises:
            HookLoadError: they cannot be loaded.
            HookOrderError: an order that is impossible, or ambiguous.
        """
        seen = [ref for ref in self.hooks or () if self._sees(find_hooks, ref)]
        loaded = load_hooks(*seen)  # together: a circle between modules, parameters given for another entry's hook
        if self._sees(self.callback_hooks):
            check_together([*self.callback_hooks(), *loaded], self.model_id)

    def _sees(self, load: Callable[..., object], *args: Any) -> bool:
        """Whether something can be loaded here. Where not: an error, unless it may be there in the replica."""
        brings_code = any((self.runtime_env or {}).get(key) for key in _BRINGS_CODE)
        try:
            load(*args)
        except (HookLoadError, ImportError) as error:
            if not (brings_code and isinstance(error.__cause__, ModuleNotFoundError | FileNotFoundError)):
                raise
            logger.info("model %r: left to the replica, which may have what is shipped: %s", self.model_id, error)
            return False
        return True

    @model_validator(mode="after")
    def _be_served_with_hooks(self) -> LLMConfig:
        self.server_cls = LLMServer if self.server_cls is None else hooked_server(self.server_cls)
        return self

    def get_or_create_callback(self) -> Any:
        """Ray's engine asks for this. Behind a server that is not ours, hooks run from here, as far as they can."""
        if self._callback_instance is None:
            self._callback_instance = HooksCallback(
                llm_config=self, raise_error_on_callback=self.callback_config.raise_error_on_callback
            )
        return self._callback_instance

    def __getstate__(self) -> dict[Any, Any]:
        state = super().__getstate__()
        if getattr(self._callback_instance, "taken", False):
            # Ray's engine sends its config to tasks of its own, which run no hook. What hooks have put into objects
            # that were given, or into their script's globals, need not be fit to follow.
            fields = {**state["__dict__"], **_NO_HOOKS, "callback_config": CallbackConfig()}
            private = {**state["__pydantic_private__"], "_script_hooks": ()}
            return {**state, "__dict__": fields, "__pydantic_private__": private}
        self.check_hooks()  # `config.hooks = [...]` is not validated where it is written
        if not is_hooked(self.server_cls):  # nor is this
            raise HookLoadError(
                f"model {self.model_id!r}: server_cls was set to {self.server_cls!r} after the config was made, so no "
                "hook would run. Give it when the config is made, or assign hooked_server(...) of it."
            )
        if self.hooks is not None:
            travelling = tuple(find_hooks(*(ref for ref in self.hooks if not isinstance(_target(ref), str))))
        elif self._script_hooks is not None:
            travelling = self._script_hooks
        else:
            travelling = tuple(hook for hook in script_hooks() if hook.options.matches(self.model_id))
            self._tell_of_others(travelling)
            state["__pydantic_private__"] = {**state["__pydantic_private__"], "_script_hooks": travelling}
        others = self.callback_hooks() if self._sees(self.callback_hooks) else []
        if self.hooks is None:
            check_together([*others, *travelling], self.model_id)  # now a script has decorated what it will
        # Says which one cannot travel, and why; the pickling around us would not.
        pack_hooks([*travelling, *others])
        return state

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> LLMConfig:
        """A copy with the same hooks: what is given in there, and what hooks keep on it, need not be fit for copying.
        Ray copies a config for some of the connectors between prefill and decode."""
        memo = {} if memo is None else memo
        memo.update((id(given), given) for given in self._given())
        copied: LLMConfig = super().__deepcopy__(memo)
        return copied

    def _given(self) -> Iterator[Any]:
        for name in _NO_HOOKS:
            held = getattr(self, name)
            yield from held.values() if isinstance(held, dict) else held if isinstance(held, list) else [held]
        yield from self._script_hooks or ()
        if getattr(self._callback_instance, "taken", False):  # else the copy makes one of its own
            yield self._callback_instance

    def _tell_of_others(self, taken: Sequence[Hook]) -> None:
        """Hooks that are registered here and stay here: the replica, which has none of them, could not tell."""
        others = [hook for hook in registry.for_model(self.model_id) if hook not in taken]
        if not others or self._others_told:
            return
        self._others_told = True
        logger.warning(
            "model %r: hooks=[...] is left out of its config, so only hooks of the running script (__main__) run, and "
            "not %s. To run them, add hooks=%r; hooks=[] runs none.",
            self.model_id,
            ", ".join(hook.ref for hook in others),
            sorted({source_of(hook) for hook in others}),
        )


def _target(ref: Any) -> Any:
    return ref.get("hook") if isinstance(ref, dict) else ref
