"""Every point, in the sync and in the async form, returning all that it may."""

from __future__ import annotations

from serve_llm_hooks import CallbackCtx, NodeCtx, Skip, hook, skip

# -- in the replica, with a veto ----------------------------------------------------------------------------------


@hook("on_before_init")
def before_init(ctx: CallbackCtx) -> bool | None:
    return False if ctx.model_id else None


@hook("on_before_init")
async def before_init_async(ctx: CallbackCtx) -> Skip | None:
    return skip("ours")


@hook("on_before_download")
def before_download(ctx: CallbackCtx) -> None:
    ctx.worker_node_download_model = "NONE"


@hook("on_before_download")
async def before_download_async(ctx: CallbackCtx) -> bool | Skip | None:
    return True


# -- in the replica -----------------------------------------------------------------------------------------------


@hook("on_custom_init")
def custom_init(ctx: CallbackCtx) -> None: ...


@hook("on_custom_init")
async def custom_init_async(ctx: CallbackCtx) -> None: ...


@hook("on_after_download")
def after_download(ctx: CallbackCtx) -> None: ...


@hook("on_after_download")
async def after_download_async(ctx: CallbackCtx) -> None: ...


@hook("on_after_placement_group")
def after_placement_group(ctx: CallbackCtx) -> None: ...


@hook("on_after_placement_group")
async def after_placement_group_async(ctx: CallbackCtx) -> None: ...


@hook("on_before_engine_init")
def before_engine_init(ctx: CallbackCtx) -> None: ...


@hook("on_before_engine_init")
async def before_engine_init_async(ctx: CallbackCtx) -> None: ...


@hook("on_after_engine_init")
def after_engine_init(ctx: CallbackCtx) -> None: ...


@hook("on_after_engine_init")
async def after_engine_init_async(ctx: CallbackCtx) -> None: ...


@hook("on_after_init")
def after_init(ctx: CallbackCtx) -> None: ...


@hook("on_after_init")
async def after_init_async(ctx: CallbackCtx) -> None: ...


@hook("on_failure")
def failure(ctx: CallbackCtx) -> None: ...


@hook("on_failure")
async def failure_async(ctx: CallbackCtx) -> None: ...


# -- on nodes -----------------------------------------------------------------------------------------------------


@hook("on_before_node_download")
def before_node_download(ctx: NodeCtx) -> bool | Skip:
    return skip("cached") if ctx.is_local else True


@hook("on_before_node_download")
async def before_node_download_async(ctx: NodeCtx) -> None: ...


@hook("on_after_node_download")
def after_node_download(ctx: NodeCtx) -> None: ...


@hook("on_after_node_download")
async def after_node_download_async(ctx: NodeCtx) -> None: ...
