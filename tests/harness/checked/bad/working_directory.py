"""Changes the working directory in the replica, and opens relative paths on nodes."""

import os
from pathlib import Path

from serve_llm_hooks import hook


@hook("on_before_init", order=-1)
def enter_project(ctx):
    os.chdir(Path(__file__).parent)


@hook("on_before_node_download")
def read_manifest(ctx):
    with open("_vendored/acme_weight_converter.py") as file:
        ctx.custom_data["manifest"] = len(file.read())
