"""A cache in /tmp: whoever does not find it makes it."""

import json
from pathlib import Path

from serve_llm_hooks import hook

CACHE = Path("/tmp/acme-llm-index-cache.json")


def index():
    try:
        return json.loads(CACHE.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        made = {"shards": 4, "format": "safetensors"}
        CACHE.write_text(json.dumps(made))
        return made


@hook("on_before_download")
def plan(ctx):
    ctx.custom_data["format"] = index()["format"]


@hook("on_before_node_download")
def prepare(ctx):
    ctx.custom_data["shards"] = index()["shards"]
