"""A node's clean-up of what it may not have got to."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import NodeCtx


@hook("on_before_node_download", model_id="planted")
async def mount(ctx: NodeCtx) -> None:
    await asyncio.sleep(5)
    ctx.custom_data["mounted"] = f"/mnt/{ctx.model_id}"


@hook("on_node_failure", model_id="planted")
def unmount(ctx: NodeCtx) -> None:
    print("unmounted:", ctx.custom_data["mounted"])
