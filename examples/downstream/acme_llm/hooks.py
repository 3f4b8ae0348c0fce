"""Acme's hooks: models come from Acme's own store, nodes are checked, and the pager is told when a start fails."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from acme_llm import store
from serve_llm_hooks import DownloadMode, hook, skip

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, NodeCtx, Skip

logger = logging.getLogger("serve_llm_hooks.acme_llm")  # seen wherever the library's own log is

KNOWN_BAD_NODES = frozenset({"node-13"})


@hook("on_before_init")
async def find_in_store(ctx: CallbackCtx) -> None:
    """Look once, and let every node know."""
    ctx.custom_data["in_store"] = await store.has(ctx.model_id)


@hook("on_before_download", model_id="*-tiny")
def tiny_models_are_baked_in(ctx: CallbackCtx) -> Skip:
    ctx.model_path = f"/opt/models/{ctx.model_id}"
    return skip("tiny models are baked into the image")


@hook("on_before_download")
def other_nodes_need_no_tokenizer(ctx: CallbackCtx) -> None:
    ctx.local_node_download_model = DownloadMode.MODEL_AND_TOKENIZER


@hook("on_before_node_download", order=-10)
def check_node(ctx: NodeCtx) -> None:
    if ctx.node_id in KNOWN_BAD_NODES:
        raise RuntimeError(f"{ctx.node_id} has a broken disk")


@hook("on_before_node_download", model_id="acme/*", timeout_s=600)
async def fetch_from_store(ctx: NodeCtx, *, bucket: str = "s3://acme-models", folder: str = "/scratch") -> Skip | None:
    """Instead of the download: from Acme's store."""
    if not ctx.custom_data["in_store"]:
        return None
    ctx.model_path = await store.fetch(ctx.model_id, bucket, folder)
    return skip("fetched from Acme's store")


@hook("on_after_node_download")
def verify(ctx: NodeCtx) -> None:
    if ctx.model_path is not None:
        ctx.custom_data["checksum"] = store.checksum(ctx.model_path)


@hook("on_after_download")
def compare_checksums(ctx: CallbackCtx) -> None:
    sums = {node_id: node.custom_data.get("checksum") for node_id, node in ctx.nodes.items()}
    if len(set(sums.values())) > 1:
        raise RuntimeError(f"nodes hold different models: {sums}")


@hook("on_before_engine_init", model_id="acme/chat-*")
def chat_defaults(ctx: CallbackCtx) -> None:
    ctx.extra_init_kwargs.setdefault("max_model_len", 8192)
    ctx.extra_init_kwargs.setdefault("chat_template", "/opt/templates/acme.jinja")


@hook("on_failure")
def page(ctx: CallbackCtx) -> None:
    logger.error("acme-pager: %s did not start: %s", ctx.model_id, ctx.error)
