"""A mutable default argument as a memory."""

from serve_llm_hooks import hook


def checksums(path=None, value=None, known={}):
    if path is not None:
        known[path] = value
    return known


@hook("on_after_node_download")
async def hash_files(ctx):
    checksums(ctx.model_path, f"sha256-of-{ctx.model_id}")


@hook("on_before_engine_init")
async def compare(ctx):
    if not checksums():
        raise RuntimeError("no node has told its checksums")
