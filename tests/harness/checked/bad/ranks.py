"""Gives nodes their ranks with a counter; each process has its own, so all have rank 0."""

import itertools

from serve_llm_hooks import hook

_ranks = itertools.count()


@hook("on_before_node_download")
def take_rank(ctx):
    ctx.custom_data["rank"] = next(_ranks)


@hook("on_after_download")
def tell_ranks(ctx):
    ctx.custom_data["ranks"] = sorted(node.custom_data["rank"] for node in ctx.nodes.values())
