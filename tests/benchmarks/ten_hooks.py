"""Ten hooks, as a team has them: one at each point of a good start, and a second before the download."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, NodeCtx


@hook("on_before_init", model_id="benchmark")
def set_up(ctx: CallbackCtx) -> None:
    ctx.custom_data["bucket"] = "s3://models"


@hook("on_before_download", model_id="benchmark")
async def choose(ctx: CallbackCtx) -> None:
    ctx.worker_node_download_model = "TOKENIZER_ONLY"


@hook("on_before_node_download", model_id="benchmark")
def check_disk(ctx: NodeCtx) -> None:
    ctx.custom_data["free_gb"] = 100


@hook("on_before_node_download", model_id="benchmark")
async def wait_for_mount(ctx: NodeCtx) -> None:
    await asyncio.sleep(0.01)


@hook("on_after_node_download", model_id="benchmark")
def unpack(ctx: NodeCtx) -> None:
    ctx.custom_data["unpacked"] = True


@hook("on_after_download", model_id="benchmark")
def add_up(ctx: CallbackCtx) -> None:
    ctx.custom_data["free_gb"] = sum(node.custom_data["free_gb"] for node in ctx.nodes.values())


@hook("on_after_placement_group", model_id="benchmark")
def look_at_group(ctx: CallbackCtx) -> None:
    assert ctx.placement_group is not None


@hook("on_before_engine_init", model_id="benchmark")
def tune(ctx: CallbackCtx) -> None:
    ctx.extra_init_kwargs["max_model_len"] = 4096


@hook("on_after_engine_init", model_id="benchmark")
async def warm_up(ctx: CallbackCtx) -> None:
    assert ctx.engine is not None


@hook("on_after_init", model_id="benchmark")
def announce(ctx: CallbackCtx) -> None:
    ctx.custom_data["done"] = True
