"""A hook that travels to a node by reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import NodeCtx


@hook("on_after_node_download", model_id="of-the-import-test")
def look(ctx: NodeCtx) -> None:
    assert ctx.custom_data["free_gb"] == 1
