"""The replica's node prepares a file, and the other nodes read it."""

import asyncio
from pathlib import Path

from serve_llm_hooks import hook

LICENSE_KEY = Path("/tmp/acme-llm/license.key")


@hook("on_before_node_download")
async def prepare(ctx):
    if ctx.is_local:
        LICENSE_KEY.parent.mkdir(parents=True, exist_ok=True)
        LICENSE_KEY.write_text("K-0001")
    else:
        await asyncio.sleep(5)


@hook("on_after_node_download")
def activate(ctx):
    ctx.custom_data["license"] = LICENSE_KEY.read_text()
