"""A module of hooks that is installed on some nodes only: `PARTLY_INSTALLED` in ``tests/conftest.py``."""

from serve_llm_hooks import HookRegistry, NodeCtx

hooks = HookRegistry()


@hooks.hook("on_before_node_download")
def from_some_nodes(ctx: NodeCtx) -> None:
    ctx.custom_data["it is here"] = True
