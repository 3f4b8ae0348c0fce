"""``check_engine_args``: build the engine's arguments as Ray does when it starts its engine, for tests without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.serve.llm import LLMConfig as RaysConfig

from .internals import AsyncEngineArgs, FrontendArgs, _normalize_vllm_engine_kwargs

if TYPE_CHECKING:
    from collections.abc import Mapping


def check_engine_args(
    llm_config: Any, *, engine_kwargs: Mapping[str, Any], frontend_kwargs: Mapping[str, Any], model_path: str
) -> dict[str, Any]:
    """Build the engine's arguments with Ray's and vLLM's own code, and return those that vLLM is given.

    For ``FakeCluster(engine_check=check_engine_args)``. It needs ``ray[llm]``, and neither a cluster, a GPU, nor the
    model.

    Args:
        llm_config: the config: a ``FakeLLMConfig`` or an ``LLMConfig``.
        engine_kwargs: the engine's arguments, those that hooks set included.
        frontend_kwargs: the OpenAI frontend's.
        model_path: where the engine loads the model from.

    Raises:
        RuntimeError: an argument that Ray or vLLM refuses, as when a replica starts.

    Example:
        >>> FakeCluster(engine_check=check_engine_args).run(config)  # doctest: +SKIP
    """
    config = RaysConfig(
        model_loading_config={"model_id": llm_config.model_id},
        engine_kwargs={**engine_kwargs, **frontend_kwargs},
        accelerator_config={"kind": getattr(llm_config.accelerator_config, "kind", "gpu")},
        log_engine_metrics=False,
    )
    engine = config.get_engine_config()
    engine.hf_model_id = model_path
    try:
        kwargs: dict[str, Any] = _normalize_vllm_engine_kwargs(engine.get_initialization_kwargs())
        AsyncEngineArgs(**kwargs)
        FrontendArgs(**engine.frontend_kwargs)
    except Exception as error:
        raise RuntimeError(f"Failed to create vLLM engine config: {error}") from None
    return kwargs
