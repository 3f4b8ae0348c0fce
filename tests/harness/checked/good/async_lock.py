"""An asyncio.Lock at the top of the module, around what two hooks of one process do at once."""

import asyncio

from serve_llm_hooks import hook

_lock = asyncio.Lock()
_limit = asyncio.Semaphore(2)


async def _fetch(part):
    async with _limit:
        await asyncio.sleep(3)
    return part


async def fetch_all(parts):
    async with _lock:
        return await asyncio.gather(*map(_fetch, range(parts)))


@hook("on_before_init")
async def in_the_replica(ctx):
    await asyncio.gather(fetch_all(2), fetch_all(4))


@hook("on_before_node_download")
async def on_a_node(ctx):
    ctx.custom_data["parts"] = len(await fetch_all(6))


@hook("on_before_engine_init")
async def again(ctx):
    await asyncio.gather(fetch_all(2), fetch_all(3))
