"""A hook that fails on its node."""

from __future__ import annotations

from serve_llm_hooks import NodeCtx, hook


@hook("on_before_node_download")
def mount_store(ctx: NodeCtx) -> None:
    raise ConnectionError("the store does not answer")
