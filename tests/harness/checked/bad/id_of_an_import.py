"""An id made at import, by which replica and nodes are to find each other."""

import uuid

from serve_llm_hooks import hook

START_ID = uuid.uuid4().hex


@hook("on_before_init")
def register(ctx):
    ctx.custom_data["registered"] = START_ID


@hook("on_after_node_download")
def join(ctx):
    ctx.custom_data["joined"] = START_ID


@hook("on_after_download")
def compare(ctx):
    ctx.custom_data["all_joined"] = all(node.custom_data["joined"] == START_ID for node in ctx.nodes.values())
