"""A helper module keeps what nodes have measured; the replica adds it up."""

from serve_llm_hooks import hook

from ._settings import recall, remember


@hook("on_before_node_download")
def measure_disk(ctx):
    remember("free_gb", 512)


@hook("on_after_download")
def decide(ctx):
    free_gb = recall("free_gb")
    ctx.extra_init_kwargs["max_num_seqs"] = 256 if free_gb is not None and free_gb > 100 else 64
