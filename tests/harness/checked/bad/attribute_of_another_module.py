"""Sets an attribute on a settings module in the replica, and reads it on nodes."""

from serve_llm_hooks import hook

from . import _settings


@hook("on_before_init")
def choose_bucket(ctx, *, region="eu"):
    _settings.BUCKET = f"s3://models-{region}"


@hook("on_before_node_download")
def list_files(ctx):
    ctx.custom_data["listed"] = f"{_settings.BUCKET}/{ctx.model_id}/config.json"


@hook("on_after_download")
def tell(ctx):
    for node_id, node in ctx.nodes.items():
        print(node_id, "has listed", node.custom_data["listed"])
