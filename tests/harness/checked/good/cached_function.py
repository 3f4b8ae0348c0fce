"""functools.cache for what is the same everywhere."""

import functools
import json
from pathlib import Path

from serve_llm_hooks import hook


@functools.cache
def limits():
    return json.loads(Path(__file__).with_name("limits.json").read_text())


@hook("on_before_engine_init")
def tune(ctx):
    ctx.extra_init_kwargs["max_model_len"] = limits()["max_model_len"]


@hook("on_before_node_download")
def check_disk(ctx):
    ctx.custom_data["enough"] = limits()["disk_gb"] < 1000


@hook("on_before_init")
def tell(ctx):
    print(f"limits: {limits()}")
