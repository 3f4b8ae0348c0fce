"""Assignments that a context refuses."""

from __future__ import annotations

from serve_llm_hooks import CallbackCtx, DownloadMode, NodeCtx, NodeResult, hook


@hook("on_before_download")
def in_the_replica(ctx: CallbackCtx) -> None:
    ctx.worker_node_download_model = "ALL"  # error: 'ALL'
    ctx.worker_node_download_model = None  # error: None
    ctx.local_node_download_model = "tokenizer_only"  # error: tokenizer_only
    ctx.llm_config = object()  # error: "llm_config"
    ctx.nodes["n1"] = NodeResult("n1")  # error: indexed assignment
    ctx.nodes["n1"].path = "/models"  # error: "path"
    ctx.nodes = {}  # error: "nodes"
    ctx.engine = object()  # error: "engine"
    ctx.error = None  # error: "error"
    ctx.trace = ctx.trace  # error: "trace"
    ctx.model_id = "m"  # error: "model_id"
    ctx.model_pth = "/models"  # error: "model_pth"
    ctx.model_path = 3  # error: "int"
    ctx.custom_data = ["seen"]  # error: "list[str]"
    ctx.extra_init_kwargs = None  # error: None
    ctx.run_init_node = "no"  # error: bool
    print(ctx.node_id)  # error: "node_id"


@hook("on_after_node_download")
def on_a_node(ctx: NodeCtx) -> None:
    ctx.download_model = "ALL"  # error: 'ALL'
    ctx.download_model = None  # error: None
    ctx.llm_config = object()  # error: "llm_config"
    ctx.model_id = "m"  # error: "model_id"
    ctx.node_id = "n1"  # error: "node_id"
    ctx.is_local = True  # error: "is_local"
    print(ctx.nodes)  # error: "nodes"
    print(ctx.worker_node_download_model)  # error: "worker_node_download_model"


CallbackCtx(worker_node_download_model="ALL")  # error: 'ALL'
CallbackCtx(config=None)  # error: "config"
NodeCtx(download_model=DownloadMode)  # error: DownloadMode
