"""What a node knew before the engine's start, it has forgotten after: that is another process."""

import time

from serve_llm_hooks import hook

_begun = {}


@hook("on_before_node_download")
def begin(ctx):
    _begun["at"] = time.monotonic()


@hook("on_after_node_engine_init")
def end(ctx):
    if "at" in _begun:
        ctx.custom_data["took_long"] = time.monotonic() - _begun["at"] > 600
