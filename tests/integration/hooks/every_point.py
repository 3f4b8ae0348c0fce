"""A hook at every point, sync and async; each notes its moment."""

from __future__ import annotations

import os
import sys

from serve_llm_hooks import CallbackCtx, NodeCtx, hook


@hook("on_before_init")
def before_init(ctx: CallbackCtx) -> None:
    ctx.custom_data["from_replica"] = os.getpid()


@hook("on_custom_init")
def custom_init(ctx: CallbackCtx) -> None:
    raise AssertionError("the defaults were not skipped")


@hook("on_before_download")
async def before_download(ctx: CallbackCtx) -> None:
    ctx.custom_data["order"] = ["before_download"]


@hook("on_before_node_download", order=1)
def before_node_second(ctx: NodeCtx) -> None:
    ctx.custom_data["order"] = [*ctx.custom_data["order"], "second"]


@hook("on_before_node_download")
async def before_node_first(ctx: NodeCtx) -> None:
    ctx.custom_data["order"] = [*ctx.custom_data["order"], "first"]
    ctx.custom_data["pid"] = os.getpid()


@hook("on_after_node_download")
def after_node(ctx: NodeCtx) -> None:
    heavy = [name for name in ("torch", "vllm", "ray.serve") if name in sys.modules]
    ctx.custom_data["heavy_imports"] = heavy
    ctx.custom_data["says"] = f"{ctx.model_id} on {ctx.node_id}, local: {ctx.is_local}"


@hook("on_after_download")
def after_download(ctx: CallbackCtx) -> None:
    ctx.custom_data["seen"] = {node_id: node.custom_data["says"] for node_id, node in ctx.nodes.items()}


@hook("on_after_placement_group")
def after_placement_group(ctx: CallbackCtx) -> None:
    ctx.custom_data["group"] = ctx.placement_group.id.hex()


@hook("on_before_engine_init")
def before_engine(ctx: CallbackCtx) -> None:
    ctx.extra_init_kwargs["max_model_len"] = 128


@hook("on_after_engine_init")
async def after_engine(ctx: CallbackCtx) -> None:
    ctx.custom_data["engine"] = ctx.engine


@hook("on_after_init")
def after_init(ctx: CallbackCtx) -> None:
    ctx.custom_data["path"] = ctx.model_path


@hook("on_failure")
def failure(ctx: CallbackCtx) -> None:
    raise AssertionError("nothing failed")
