"""Make the library's log visible in processes that Ray starts for us, as Ray Serve LLM does with its own."""

from __future__ import annotations

import logging

__all__ = ["show_log"]


def show_log() -> None:
    """Send the library's log to stderr (Ray collects it), unless somebody has configured logging."""
    logger = logging.getLogger("serve_llm_hooks")
    if logger.hasHandlers():
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s %(name)s -- %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
