"""Check ``ctx.extra_init_kwargs``, and split it into the engine's arguments and its OpenAI frontend's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._core.errors import EngineArgumentError
from .._core.messages import describe, did_you_mean
from .._core.snapshot import unchanging

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


_NAMED_ELSEWHERE = ("model", "model_path", "served_model_name")
# The placement group has one bundle for each worker, and is fixed before any hook that could change its number.
_PARALLEL = (
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "data_parallel_size_local",
    "data_parallel_rank",
    "prefill_context_parallel_size",
)

# SGLang's names for the same.
SGLANG_PARALLEL = ("tp_size", "pp_size", "dp_size", "ep_size", "nnodes")


def is_parallel(key: str) -> bool:
    """Return True for a parallel size of some engine."""
    return key in _PARALLEL or key in SGLANG_PARALLEL


def split_engine_kwargs(
    extra: Mapping[str, Any],
    *,
    engine_names: Collection[str] | None,
    frontend_names: Collection[str],
    current: Mapping[str, Any],
    parallel: Collection[str] = _PARALLEL,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what hooks set as the engine's arguments and its OpenAI frontend's.

    Args:
        extra: ``ctx.extra_init_kwargs``.
        engine_names: the engine's arguments; ``None`` when they are not known here, so that none is refused.
        frontend_names: the frontend's.
        current: the config's ``engine_kwargs``.
        parallel: the engine's parallel sizes.

    Raises:
        EngineArgumentError: a key that is neither, that is set in another field, or that changes a parallel size.

    Example:
        >>> split_engine_kwargs(
        ...     {"max_model_len": 128, "chat_template": "..."},
        ...     engine_names={"max_model_len"},
        ...     frontend_names={"chat_template"},
        ...     current={},
        ... )
        ({'max_model_len': 128}, {'chat_template': '...'})
    """
    engine: dict[str, Any] = {}
    frontend: dict[str, Any] = {}
    for key, value in unchanging(lambda: list(extra.items())):
        if key in _NAMED_ELSEWHERE:
            raise EngineArgumentError(
                f"ctx.extra_init_kwargs[{key!r}] cannot be set by a hook: set ctx.model_path to load the model from "
                "elsewhere; the name that clients use is model_id in the config"
            )
        if key in parallel and value != current.get(key, None if key == "data_parallel_rank" else 1):
            size = describe(current.get(key, 1))
            raise EngineArgumentError(
                f"ctx.extra_init_kwargs[{key!r}] = {describe(value)} cannot be changed by a hook, because the "
                f"placement group is made for {size}: write it into engine_kwargs of the config"
            )
        if key in frontend_names:
            frontend[key] = value
        elif engine_names is None or key in engine_names:
            engine[key] = value
        else:
            hint = did_you_mean(key, [*engine_names, *frontend_names])
            raise EngineArgumentError(f"ctx.extra_init_kwargs[{key!r}] is no argument of the engine{hint}")
    return engine, frontend
