"""``weights="late"``: the setting of a config, and where it is refused."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

from .._core.errors import HookLoadError
from .._core.messages import describe

Weights: TypeAlias = Literal["late"]
"""The values of ``weights=``: ``"late"`` downloads them while the engine's processes begin."""


def is_late(llm_config: Any) -> bool:
    """Return True if a config asks for its weights while the engine's processes begin."""
    return getattr(llm_config, "weights", None) == "late"


def check_weights(
    value: object, *, model_id: str, has_bucket: bool, streaming_format: str | None, is_vllm: bool = True
) -> None:
    """Check the setting ``weights`` of a config.

    Args:
        value: the setting.
        model_id: the model.
        has_bucket: whether Ray downloads the model from a bucket.
        streaming_format: the load format with which the engine streams the weights itself; ``None`` where it does not.
        is_vllm: whether the engine is vLLM's.

    Raises:
        ValueError: it is not possible; the message says which line to change.
    """
    if value is None:
        return
    if value != "late":
        raise ValueError(f"weights= is 'late', or left out, not {describe(value)}")
    if not is_vllm:
        why, instead = "only vLLM's workers wait for them, and its server starts another engine", "server_cls="
    elif not has_bucket:
        why = "it does not come from a bucket, so Ray downloads nothing; vLLM fetches a Hugging Face id itself"
        instead = "give the bucket: model_source='s3://...' in model_loading_config"
    elif streaming_format is not None:
        why = f"load_format={streaming_format!r} streams the weights, so Ray downloads none"
        instead = "load_format="
    else:
        return
    instead = instead if instead.startswith("give") else f"leave out {instead}"
    raise ValueError(f"weights='late' of model {model_id!r}: {why}. Leave out weights=, or {instead}.")


def refuse_late(llm_config: Any, why: str) -> None:
    """Refuse weights that nobody would wait for.

    Args:
        llm_config: the config.
        why: why nobody would, and what to write instead.

    Raises:
        HookLoadError: its weights are late.
    """
    if is_late(llm_config):
        raise HookLoadError(f"weights='late' of model {str(llm_config.model_id)!r}: {why}")
