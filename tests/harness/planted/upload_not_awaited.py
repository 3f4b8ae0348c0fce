"""An upload that a node begins and does not wait for: its process ends before."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import NodeCtx

uploads: set[asyncio.Task[None]] = set()


async def upload(report: str) -> None:
    await asyncio.sleep(15)
    print("uploaded:", report)


@hook("on_after_node_download", model_id="planted")
async def report(ctx: NodeCtx) -> None:
    task = asyncio.create_task(upload(f"{ctx.node_id} has {ctx.model_path}"))
    uploads.add(task)
    task.add_done_callback(uploads.discard)
