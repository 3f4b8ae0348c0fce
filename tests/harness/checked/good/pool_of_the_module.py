"""A pool of threads at the top of the module, in which both sides work."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from serve_llm_hooks import ask, hook

_pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="acme")


def _size(name):
    return len(name) * 100


@hook("on_before_download")
async def sizes(ctx):
    loop = asyncio.get_running_loop()
    ctx.custom_data["size"] = sum(await asyncio.gather(*(loop.run_in_executor(_pool, _size, n) for n in ("a", "bb"))))


@hook("on_after_node_download")
async def verify(ctx):
    loop = asyncio.get_running_loop()
    ctx.custom_data["verified"] = await loop.run_in_executor(_pool, _size, "ccc")


@hook("on_after_engine_init")
async def warm_up(ctx):
    await ask(ctx, "Hello!", max_tokens=1)
