"""Waits for a service with a deadline of its own."""

import asyncio
import time

from serve_llm_hooks import hook

_seen_at = {}


def _is_up(name):
    first = _seen_at.setdefault(name, time.monotonic())
    return time.monotonic() - first > 7


async def wait_until_up(name, limit_s=60.0):
    deadline = time.monotonic() + limit_s
    while not _is_up(name):
        if time.monotonic() > deadline:
            raise TimeoutError(name)
        await asyncio.sleep(0.3)


@hook("on_before_init")
async def wait_for_the_store(ctx):
    await wait_until_up("store")


@hook("on_before_node_download")
async def wait_for_the_mount(ctx):
    await wait_until_up("mount")
    ctx.custom_data["mounted"] = True
