"""``GivenConfig``: notice that a hook writes into the config what the engine would never see there."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from .._core.errors import EngineArgumentError
from .._core.values import same_value
from .engine_args import is_parallel

if TYPE_CHECKING:
    from .._core.points import HookName


class GivenConfig:
    """The engine's arguments and the model's source, as they were when the start began.

    Ray has made its engine's config of them by then, and reads them no more. A hook that changes them changes nothing,
    or, where an engine reads the config itself, escapes the checks of ``ctx.extra_init_kwargs``.
    """

    def __init__(self, llm_config: Any) -> None:
        self._llm_config = llm_config
        self._kwargs: dict[str, Any] = {key: _kept(value) for key, value in _kwargs(llm_config).items()}
        self._source = _kept(_source(llm_config))

    def check(self, point: HookName) -> None:
        """Check that the hooks of a point, which have just run, left them alone.

        Raises:
            EngineArgumentError: they did not; the message says which key, and what to write instead.
        """
        where = f"model {str(self._llm_config.model_id)!r}: a hook at {point} changed"
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
        if not same_value(_source(self._llm_config), self._source):
            raise EngineArgumentError(
                f"{where} the model_source of ctx.llm_config, which nobody reads any more. Set ctx.model_path to load "
                "the model from elsewhere."
            )


def _kwargs(llm_config: Any) -> dict[str, Any]:
    return getattr(llm_config, "engine_kwargs", None) or {}


def _source(llm_config: Any) -> Any:
    """Return the model's source, which Ray's config has one level below."""
    return getattr(getattr(llm_config, "model_loading_config", llm_config), "model_source", None)


def _kept(value: Any) -> Any:
    """Return a copy, which shows whether the value is changed in place; the value itself where no copy is like it."""
    try:
        copied = copy.deepcopy(value)
    except Exception:
        return value
    return copied if same_value(copied, value) else value
