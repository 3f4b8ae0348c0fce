"""A platform team's module: typed, with options, parameters and a private helper."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serve_llm_hooks import DownloadMode, Skip, hook, skip

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, NodeCtx

REGIONS = ("eu", "us")


@hook("on_before_init", order=-10, timeout_s=30)
async def look_up(ctx: CallbackCtx, *, region: str = "eu") -> None:
    await asyncio.sleep(0)
    if region not in REGIONS:
        raise ValueError(region)
    ctx.custom_data["bucket"] = f"s3://models-{region}/{ctx.model_id}"


@hook("on_before_init", after="look_up", on_error="warn")
def announce(ctx: CallbackCtx) -> None:
    raise ConnectionError(f"no metrics server for {ctx.custom_data['bucket']}")


@hook("on_before_download", model_id=["meta-llama/*", "qwen"])
def leave_weights(ctx: CallbackCtx) -> None:
    ctx.worker_node_download_model = DownloadMode.EXCLUDE_SAFETENSORS


@hook("on_before_node_download")
def baked(ctx: NodeCtx) -> Skip | None:
    if ctx.is_local:
        return None
    ctx.model_path = "/models/m"
    return skip("the image has it")


@hook("on_after_node_download", before=["v0_1_other:measure", "clean"])
def unpack(ctx: NodeCtx) -> None:
    _note(ctx, "unpacked")


@hook("on_after_node_download", order=-1)
def clean(ctx: NodeCtx) -> None:
    _note(ctx, "cleaned")


@hook("on_failure")
@hook("on_after_init")
def report(ctx: CallbackCtx) -> None:
    ctx.custom_data["outcome"] = "failed" if ctx.error else "started"


def _note(ctx: NodeCtx, what: str) -> None:
    ctx.custom_data.setdefault("notes", []).append(what)
