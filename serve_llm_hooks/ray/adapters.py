"""Load LoRA adapters before Ray is asked for them, by Ray's own loader."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def loader_of(server: Any) -> Callable[[str], Awaitable[None]] | None:
    """Return what loads an adapter into a server; ``None`` where it is no server of Ray's for vLLM."""
    return partial(_load, server) if hasattr(server, "_load_model") else None


async def _load(server: Any, adapter: str) -> None:
    """Do what Ray does at an adapter's first request.

    Loading it into the engine alone would leave the listing and the download of its files to the first request, and
    Serve's router would not know that this replica has it.
    """
    found = await server._load_model(f"{server._llm_config.model_id}:{adapter}")
    await server.engine.resolve_lora(found)
