"""As it should be: what crosses is in custom_data."""

import logging

from serve_llm_hooks import hook

log = logging.getLogger(__name__)


@hook("on_before_init")
def choose(ctx):
    ctx.custom_data["token"] = f"token-of-{ctx.model_id}"


@hook("on_before_node_download")
def measure(ctx):
    log.info("measuring with %s", ctx.custom_data["token"])
    ctx.custom_data["free_gb"] = 300


@hook("on_after_download")
def add_up(ctx):
    free = {node_id: node.custom_data.get("free_gb", 0) for node_id, node in ctx.nodes.items()}
    ctx.custom_data["free_gb"] = min(free.values(), default=0)
    log.info("least free: %d GB", ctx.custom_data["free_gb"])


@hook("on_failure")
def tell(ctx):
    log.error("failed with %s", type(ctx.error).__name__)
