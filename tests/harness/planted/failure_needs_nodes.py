"""A clean-up that takes it for granted that there are nodes: some starts fail before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx


@hook("on_before_init", model_id="planted")
def reserve(ctx: CallbackCtx) -> None:
    ctx.custom_data["reservation"] = ctx.model_id


@hook("on_failure", model_id="planted")
def tell(ctx: CallbackCtx) -> None:
    first = next(iter(ctx.nodes.values()))
    print(f"{ctx.model_id} did not start, first node {first.node_id}: {ctx.error}")
