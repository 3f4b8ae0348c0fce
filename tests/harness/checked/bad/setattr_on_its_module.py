"""setattr on its own module, which no analysis of `global` sees."""

import sys

from serve_llm_hooks import hook

SHARDS = 1


@hook("on_before_download")
def count_shards(ctx):
    setattr(sys.modules[__name__], "SHARDS", 8)


@hook("on_before_node_download")
def split(ctx):
    ctx.custom_data["part"] = f"1 of {SHARDS}"
