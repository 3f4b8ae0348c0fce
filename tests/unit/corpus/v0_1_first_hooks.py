"""The first hooks of somebody who has read the README. No types, no options."""

from serve_llm_hooks import hook


@hook("on_before_init")
def set_up(ctx):
    ctx.custom_data["started_for"] = ctx.model_id


@hook("on_before_download")
def choose_files(ctx):
    ctx.worker_node_download_model = "TOKENIZER_ONLY"
    ctx.local_node_download_model = "MODEL_AND_TOKENIZER"


@hook("on_before_node_download")
def make_room(ctx):
    ctx.custom_data["freed_gb"] = 3


@hook("on_after_node_download")
def check(ctx):
    ctx.custom_data["checked"] = ctx.model_path
    return True


@hook("on_after_download")
def see(ctx):
    ctx.custom_data["freed_gb"] = sum(node.custom_data["freed_gb"] for node in ctx.nodes.values())


@hook("on_before_engine_init")
def tune(ctx):
    ctx.extra_init_kwargs["max_model_len"] = 4096


@hook("on_after_engine_init")
async def warm_up(ctx):
    ctx.custom_data["engine"] = ctx.engine


@hook("on_after_init")
def done(ctx):
    ctx.custom_data["seconds"] = sum(event.duration_s for event in ctx.trace)
