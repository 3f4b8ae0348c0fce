"""The demo's own hooks: per-node work, an engine argument, timings, and one for another model."""

from __future__ import annotations

import logging
import shutil

from serve_llm_hooks import CallbackCtx, NodeCtx, Skip, hook, skip

logger = logging.getLogger("serve_llm_hooks.demo")


@hook("on_before_node_download")
def check_disk(ctx: NodeCtx, *, min_free_gib: float = 1.0) -> Skip | None:
    """On every node: fail early where there is no room, and remember how much there is."""
    free_gib = shutil.disk_usage("/").free / 2**30
    ctx.custom_data["free_gib"] = round(free_gib, 1)
    if free_gib < min_free_gib:
        raise OSError(f"{free_gib:.1f} GiB free, {min_free_gib:.1f} GiB wanted")
    return skip("the model is a local folder")


@hook("on_before_engine_init")
def short_context(ctx: CallbackCtx) -> None:
    """In the replica: start the engine with a smaller context than the config says."""
    ctx.extra_init_kwargs["max_model_len"] = 512


@hook("on_after_init")
def timings(ctx: CallbackCtx) -> None:
    """In the replica, last: how long each hook took, and what the nodes stored."""
    for event in ctx.trace:
        logger.info("%s took %.3f s on node %s", event.name, event.duration_s, event.node_id[:8])
    for node in ctx.nodes.values():
        logger.info("node %s has %s GiB free", node.node_id[:8], node.custom_data["free_gib"])


@hook("on_before_init", model_id="another-model")
def never(ctx: CallbackCtx) -> None:
    """Keyed to a model that the demo does not serve: must not run."""
    raise RuntimeError(f"this hook is not for {ctx.model_id}")
