"""Ray alone: the same moments, noted by a callback of Ray's own. Nothing here imports this library."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from .marks import mark

CallbackBase: Any = import_module("ray.llm._internal.common.callbacks.base").CallbackBase


class Marks(CallbackBase):  # type: ignore[misc]  # imported by name: Ray shows it nowhere else
    """Notes when Ray's node initialization begins and ends."""

    async def on_before_node_init(self) -> None:
        mark("replica is up")

    async def on_after_node_init(self) -> None:
        mark("nodes are ready")
