"""The hooks of the benchmarks: three on every node, and two in the replica that note the time."""

from __future__ import annotations

import os

from serve_llm_hooks import CallbackCtx, NodeCtx, hook

from .marks import mark


@hook("on_before_node_download")
def check_disk(ctx: NodeCtx) -> None:
    ctx.custom_data["free_bytes"] = os.statvfs("/").f_bavail


@hook("on_before_node_download")
async def choose_mirror(ctx: NodeCtx) -> None:
    ctx.custom_data["mirror"] = "nearest"


@hook("on_after_node_download")
def verify(ctx: NodeCtx) -> None:
    ctx.custom_data["verified"] = True


@hook("on_before_init", model_id="deployed")
def replica_is_up(ctx: CallbackCtx) -> None:
    mark("replica is up")


@hook("on_before_engine_init", model_id="deployed")
def nodes_are_ready(ctx: CallbackCtx) -> None:
    mark("nodes are ready")
