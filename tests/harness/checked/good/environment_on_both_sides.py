"""Sets variables in each process that needs them."""

import os

from serve_llm_hooks import hook


def prepare_environment():
    os.environ.setdefault("HF_HUB_ENABLE_HF_TRANSFER", "1")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@hook("on_before_init", order=-100)
def in_the_replica(ctx):
    prepare_environment()


@hook("on_before_node_download", order=-100)
def on_a_node(ctx):
    prepare_environment()


@hook("on_before_node_download")
def fetch(ctx):
    ctx.custom_data["fast"] = os.environ["HF_HUB_ENABLE_HF_TRANSFER"] == "1"
