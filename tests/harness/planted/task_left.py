"""A heartbeat that only the end of a good start ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx

beating: list[asyncio.Task[None]] = []


async def beat(model_id: str) -> None:
    while True:
        print("starting:", model_id)
        await asyncio.sleep(10)


@hook("on_before_init", model_id="planted")
async def begin(ctx: CallbackCtx) -> None:
    beating.append(asyncio.create_task(beat(ctx.model_id)))


@hook("on_after_init", model_id="planted")
async def end(ctx: CallbackCtx) -> None:
    beating.pop().cancel()
