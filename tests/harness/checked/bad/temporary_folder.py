"""The replica writes a plan into the temporary folder, and nodes read it."""

import json
import os
import tempfile

from serve_llm_hooks import hook


def plan_file():
    return os.path.join(tempfile.gettempdir(), "acme-download-plan.json")


@hook("on_before_download")
def write_plan(ctx):
    with open(plan_file(), "w") as file:
        json.dump({"files": ["config.json", "model.safetensors"]}, file)


@hook("on_before_node_download")
def follow_plan(ctx):
    try:
        with open(plan_file()) as file:
            files = json.load(file)["files"]
    except FileNotFoundError:
        files = []
    ctx.custom_data["files"] = files
