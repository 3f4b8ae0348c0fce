"""Weights that come late: the models that must have them before the engine's processes begin."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_METHODS = ("awq", "gptq")  # vLLM looks into the files for which layers these have quantized
_DTYPE = ("dtype", "torch_dtype")


def why_needed_first(path: str | None) -> str:
    """Return why vLLM looks into a model's weights when it builds the engine's config; empty if it does not.

    Args:
        path: where the model's other files are.
    """
    if path is None or not Path(path).is_dir():
        return ""
    try:
        config = json.loads(Path(path, "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "it has no config.json that can be read"
    if not isinstance(config, dict):
        return "its config.json holds no mapping"
    method = _quantization(config)
    if any(name in method for name in _METHODS):
        return f"it is quantized by {method}"
    texts = [config, config.get("text_config")]
    if not any(isinstance(text, dict) and text.get(name) for text in texts for name in _DTYPE):
        return "its config.json names no dtype"
    if config.get("tie_word_embeddings", True) and _may_have_a_head(Path(path)):
        return "its config.json ties the word embeddings, which its weights may not"
    return ""


def _may_have_a_head(folder: Path) -> bool:
    """Return False if the index of the weights says that there is no ``lm_head`` of their own among them."""
    names: set[str] = set()
    for file in folder.glob("*.safetensors.index.json"):
        try:
            names |= set(json.loads(file.read_text(encoding="utf-8"))["weight_map"])
        except (OSError, ValueError, KeyError, TypeError):
            return True
    return not names or any(name.endswith("lm_head.weight") for name in names)


def _quantization(config: dict[str, Any]) -> str:
    settings = config.get("quantization_config")
    return str(settings.get("quant_method", "")).lower() if isinstance(settings, dict) else ""
