"""Warn of ``weights="late"``, which is for Ray's own download, beside a recipe that says where the weights are."""

from __future__ import annotations

import logging
from typing import Any

_logger = logging.getLogger("serve_llm_hooks.recipes")


def warn_of_late_weights(llm_config: Any, recipe: str) -> None:
    """Warn of late weights in the config of a model of which Ray downloads nothing."""
    if getattr(llm_config, "weights", None) == "late":
        _logger.warning(
            "model %r: weights='late' has no effect beside %s, as Ray downloads none of them: leave out weights=",
            llm_config.model_id,
            recipe,
        )
