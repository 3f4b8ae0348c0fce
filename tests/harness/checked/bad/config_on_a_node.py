"""Writes into the config on a node, where it is a copy."""

from serve_llm_hooks import hook


@hook("on_after_node_download")
def fit_to_the_gpu(ctx):
    free_gb = 24
    ctx.llm_config.engine_kwargs["max_model_len"] = 2048 * (free_gb // 8)
