"""Nodes that read a shared file, and write it back a moment later: what another has written meanwhile is lost."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, NodeCtx


def manifest() -> Path:
    return Path(os.environ["PLANTED_SHARED"], "manifest.json")


def read() -> dict[str, str]:
    file = manifest()
    entries: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
    return entries


@hook("on_after_node_download", model_id="planted")
async def add_to_manifest(ctx: NodeCtx) -> None:
    entries = await asyncio.to_thread(read)
    entries[ctx.node_id] = str(ctx.model_path)
    await asyncio.to_thread(manifest().write_text, json.dumps(entries))


@hook("on_after_download", model_id="planted")
def check_manifest(ctx: CallbackCtx) -> None:
    entries = read()
    ctx.custom_data["paths"] = {node_id: entries[node_id] for node_id in ctx.nodes}
