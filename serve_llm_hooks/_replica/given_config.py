"""``GivenConfig``: notice that a hook writes into the config what the engine would never see there."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from .._core.errors import EngineArgumentError
from .._core.values import same_value
from .engine_args import is_parallel

if TYPE_CHECKING:
    from .._core.points import HookName


_UNREAD = "which nobody reads any more"
_IN_CONFIG = "Write it into the config"

# What has been read when the first hook runs, why a change comes to nothing, and what to do instead. Ray's LLMConfig
# has more fields than the harness's. Those in which people write hooks hold any objects, which are not copied.
_FIELDS: dict[str, tuple[str, str]] = {
    "model_source": (_UNREAD, "Set ctx.model_path to load the model from elsewhere"),
    "model_id": ("by which its app knows the model already", _IN_CONFIG),
    "runtime_env": (_UNREAD, "Set ctx.runtime_env instead"),
    "placement_group_config": (_UNREAD, "Set ctx.placement_group instead"),
    "llm_engine": (_UNREAD, _IN_CONFIG),
    "accelerator_type": (_UNREAD, _IN_CONFIG),
    "accelerator_config": (_UNREAD, _IN_CONFIG),
    "deployment_config": (_UNREAD, _IN_CONFIG),
    "weights": (_UNREAD, _IN_CONFIG),
}
_FIELDS_OF_HOOKS: dict[str, tuple[str, str]] = dict.fromkeys(
    (
        "hooks", "callback", "callback_kwargs", "callbacks", "initialization_class", "initialization_kwargs",
        "callback_config",
    ),
    ("after the hooks of this start were chosen", _IN_CONFIG),
)  # fmt: skip


class GivenConfig:
    """The fields of the config that are read once, as they were when the start began.

    Ray has made its engine's config of them by then, and reads them no more. A hook that changes them changes nothing,
    or, where an engine reads the config itself, escapes the checks of ``ctx.extra_init_kwargs``.
    """

    def __init__(self, llm_config: Any) -> None:
        self._llm_config = llm_config
        self._model_id = str(llm_config.model_id)
        self._kwargs: dict[str, Any] = {key: _kept(value) for key, value in _kwargs(llm_config).items()}
        self._fields: dict[str, Any] = {name: _kept(_field(llm_config, name)) for name in _FIELDS}
        self._fields |= {name: _listed(_field(llm_config, name)) for name in _FIELDS_OF_HOOKS}

    def check(self, point: HookName) -> None:
        """Check that the hooks of a point, which have just run, left them alone.

        Raises:
            EngineArgumentError: they did not; the message says which key or field, and what to write instead.
        """
        where = f"model {self._model_id!r}: a hook at {point} changed"
        now = _kwargs(self._llm_config)
        for key in dict.fromkeys((*self._kwargs, *now)):
            if key in now and key in self._kwargs and same_value(now[key], self._kwargs[key]):
                continue
            instead = f"Set ctx.extra_init_kwargs[{key!r}] instead"
            if is_parallel(key):
                instead = "The placement group is made for a parallel size, so it is written into the config"
            raise EngineArgumentError(
                f"{where} ctx.llm_config.engine_kwargs[{key!r}], which the engine does not see any more: it "
                f"has been read. {instead}."
            )
        for name, (why, instead) in (_FIELDS | _FIELDS_OF_HOOKS).items():
            if not same_value(_field(self._llm_config, name), self._fields[name]):
                raise EngineArgumentError(f"{where} the {name} of ctx.llm_config, {why}. {instead}.")


def _kwargs(llm_config: Any) -> dict[str, Any]:
    return getattr(llm_config, "engine_kwargs", None) or {}


def _field(llm_config: Any, name: str) -> Any:
    """Return a field; those of the model are one level below in Ray's config."""
    below = name in ("model_id", "model_source")
    return getattr(getattr(llm_config, "model_loading_config", llm_config) if below else llm_config, name, None)


def _listed(value: Any) -> Any:
    return copy.copy(value) if type(value) in (list, dict) else value


def _kept(value: Any) -> Any:
    """Return a copy, which shows whether the value is changed in place; the value itself where no copy is like it."""
    try:
        copied = copy.deepcopy(value)
    except Exception:
        return value
    return copied if same_value(copied, value) else value
