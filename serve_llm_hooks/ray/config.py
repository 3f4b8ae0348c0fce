"""``LLMConfig`` with ``hooks=[...]``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import PrivateAttr, field_validator, model_validator
from ray.serve.llm import LLMConfig as _RayLLMConfig

from ..errors import HookLoadError
from ..loading import load_hooks, script_hooks
from ..node import pack_hooks
from .callback import HooksCallback
from .internals import CallbackBase
from .server import LLMServer, hooked_server

if TYPE_CHECKING:
    from ..registry import Hook

__all__ = ["LLMConfig"]


class LLMConfig(_RayLLMConfig):
    """Ray's ``LLMConfig``, with hooks.

    It goes wherever Ray's goes: ``ray.serve.llm.build_openai_app``, ``build_llm_deployment``, ``serve.run``.

    Attributes:
        hooks: what runs, each entry as :func:`serve_llm_hooks.load_hooks` takes it. ``None``: what the running script
            itself decorated. ``[]``: nothing.

    Args:
        model_id: shorthand for ``model_loading_config={"model_id": ...}``.

    Raises:
        HookLoadError: hooks that cannot be loaded. A module that this process does not have is let through when
            ``runtime_env`` ships code (``working_dir``, ``py_modules``); the replica then says so.

    Example:
        >>> LLMConfig(model_id="llama-2-7b", hooks=["my_company.llm_hooks"])  # doctest: +SKIP
    """

    hooks: list[Any] | None = None

    # What the script had decorated when the config left its process; None while it is still there.
    _script_hooks: tuple[Hook, ...] | None = PrivateAttr(None)

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

    @model_validator(mode="after")
    def _check_hooks(self) -> LLMConfig:
        for ref in self.hooks or ():
            try:
                load_hooks(ref)
            except HookLoadError as error:
                if not (isinstance(error.__cause__, ModuleNotFoundError) and _ships_code(self.runtime_env)):
                    raise
        else:
            if self.hooks and not _ships_code(self.runtime_env):
                load_hooks(*self.hooks)  # together: a circle between modules, parameters given for another's hook
        return self

    @model_validator(mode="after")
    def _be_served_with_hooks(self) -> LLMConfig:
        self.server_cls = LLMServer if self.server_cls is None else hooked_server(self.server_cls)
        chosen = self.callback_config.callback_class
        if chosen is not CallbackBase:
            raise ValueError(
                f"callback_config names {chosen!r}, and hooks run instead of Ray's callbacks here: write what it does "
                "as hooks, or keep ray.serve.llm.LLMConfig, with serve_llm_hooks.ray.HooksCallback for hooks that run "
                "before the engine"
            )
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
        if self.hooks is None and self._script_hooks is None:
            hooks = tuple(hook for hook in script_hooks() if hook.options.matches(self.model_id))
            state["__pydantic_private__"] = {**state["__pydantic_private__"], "_script_hooks": hooks}
            pack_hooks(hooks)  # says which one cannot travel, and why; the pickling around us would not
        elif self.hooks:
            pack_hooks(load_hooks(*(ref for ref in self.hooks if not isinstance(ref, str | dict))))
        return state


def _ships_code(runtime_env: dict[str, Any] | None) -> bool:
    return bool(runtime_env and (runtime_env.get("working_dir") or runtime_env.get("py_modules")))
