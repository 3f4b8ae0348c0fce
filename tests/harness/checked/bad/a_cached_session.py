"""functools.lru_cache as a singleton: filled in the replica, empty on a node."""

import functools
import logging

from serve_llm_hooks import hook

logger = logging.getLogger(__name__)


@functools.lru_cache(maxsize=1)
def session():
    return {"headers": {}}


@hook("on_before_init")
def log_in(ctx):
    session()["headers"]["Authorization"] = f"Bearer token-of-{ctx.model_id}"


@hook("on_before_node_download")
def fetch_adapters(ctx):
    headers = session()["headers"]
    logger.info("fetching adapters with %d headers", len(headers))
    ctx.custom_data["adapters"] = ["a", "b"] if "Authorization" in headers else []
