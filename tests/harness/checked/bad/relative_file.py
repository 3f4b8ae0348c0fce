"""Nodes leave a marker beside them, and the replica looks whether it is there."""

from pathlib import Path

from serve_llm_hooks import hook

READY = Path("weights.ready")


@hook("on_after_node_download")
def mark(ctx):
    READY.touch()


@hook("on_after_download")
def look(ctx):
    ctx.custom_data["ready"] = READY.exists()


@hook("on_shutdown")
def unmark(ctx):
    READY.unlink(missing_ok=True)
