"""Hooks whose calls are looked for in Ray's metrics, and one that sets a gauge."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ray.util.metrics import Gauge

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, NodeCtx


@hook("on_before_init")
def fails_once(ctx: CallbackCtx, *, file: str) -> None:
    """Fail in the first replica that tries."""
    if not Path(file).exists():
        Path(file).touch()
        raise ValueError("the first try")


@hook("on_before_node_download")
def on_the_node(ctx: NodeCtx) -> None:
    """Do nothing, on a node."""


@hook("on_after_init")
def sets_a_gauge(ctx: CallbackCtx) -> None:
    """Set a gauge once, as people do."""
    Gauge("measured_gauge", "A gauge.").set(7)


@hook("on_shutdown")
def says_goodbye(ctx: CallbackCtx) -> None:
    """Do nothing, at the end."""
