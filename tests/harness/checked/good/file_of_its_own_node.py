"""Leaves a file before the download and finds it after, on the same node."""

import os
import tempfile

from serve_llm_hooks import hook


def _marker(ctx):
    return os.path.join(tempfile.gettempdir(), f"acme-download-of-{ctx.model_id}.started")


@hook("on_before_node_download")
def mark(ctx):
    with open(_marker(ctx), "w") as file:
        file.write(ctx.node_id)


@hook("on_after_node_download")
def unmark(ctx):
    with open(_marker(ctx)) as file:
        ctx.custom_data["started_by"] = file.read()
    os.remove(_marker(ctx))


@hook("on_node_failure")
def clean_up(ctx):
    if os.path.exists(_marker(ctx)):
        os.remove(_marker(ctx))
