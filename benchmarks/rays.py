"""Ray alone: the same moments, noted by a callback of Ray's own."""

from __future__ import annotations

from serve_llm_hooks.ray.internals import CallbackBase

from .hooks import mark


class Marks(CallbackBase):
    """Notes when Ray's node initialization begins and ends."""

    async def on_before_node_init(self) -> None:
        mark("replica is up")

    async def on_after_node_init(self) -> None:
        mark("nodes are ready")
