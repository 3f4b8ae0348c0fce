"""A hook that runs once per node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import NodeCtx


@hook("on_before_node_download", once_per_node=True)
def fetch_once(ctx: NodeCtx) -> None:
    """Leave something for the other replicas."""
    ctx.custom_data["fetched"] = not ctx.unfinished
