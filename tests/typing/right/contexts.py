"""Read the fields of contexts, by their types, and assign those that may be assigned."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, assert_type

from serve_llm_hooks import (
    CallbackCtx,
    DownloadMode,
    HookEvent,
    InitializeNodeOutput,
    NodeCtx,
    NodeResult,
    Trace,
    initialize_node,
    load_hooks,
)


class RaysMode(Enum):
    """Stands for Ray's own enum."""

    TOKENIZER_ONLY = 2


def read(ctx: CallbackCtx, node: NodeCtx) -> None:
    assert_type(ctx.model_id, str)
    assert_type(ctx.llm_config, Any)
    assert_type(ctx.worker_node_download_model, DownloadMode)
    assert_type(ctx.local_node_download_model, DownloadMode | None)
    assert_type(ctx.runtime_env, dict[str, Any] | None)
    assert_type(ctx.extra_init_kwargs, dict[str, Any])
    assert_type(ctx.custom_data, dict[str, Any])
    assert_type(ctx.model_path, str | None)
    assert_type(ctx.run_init_node, bool)
    assert_type(ctx.nodes, Mapping[str, NodeResult])
    assert_type(ctx.nodes["n1"].path, str | None)
    assert_type(ctx.error, Exception | None)
    assert_type(ctx.trace, Trace)
    assert_type([event for event in ctx.trace], list[HookEvent])  # noqa: C416  # it is the loop's variable that is asked about
    assert_type(node.model_id, str)
    assert_type(node.node_id, str)
    assert_type(node.is_local, bool)
    assert_type(node.download_model, DownloadMode)
    assert_type(node.llm_config, Any)


def write(ctx: CallbackCtx, node: NodeCtx) -> None:
    ctx.worker_node_download_model = "MODEL_AND_TOKENIZER"
    ctx.worker_node_download_model = DownloadMode.NONE
    ctx.worker_node_download_model = RaysMode.TOKENIZER_ONLY
    ctx.local_node_download_model = "EXCLUDE_SAFETENSORS"
    ctx.local_node_download_model = None
    ctx.placement_group = object()
    ctx.runtime_env = {"pip": ["x"]}
    ctx.runtime_env = None
    ctx.extra_init_kwargs = {"max_model_len": 4096}
    ctx.extra_init_kwargs["max_num_seqs"] = 4
    ctx.model_path = str(Path("/models/m"))
    ctx.custom_data["seen"] = True
    ctx.run_init_node = False
    node.download_model = "TOKENIZER_ONLY"
    node.custom_data |= {"seen": True}
    node.model_path = None


async def start(config: object) -> None:
    async def start_engine(ctx: CallbackCtx) -> str:
        return "the engine"

    assert_type(await initialize_node(config, start_engine=start_engine), InitializeNodeOutput)


def build() -> None:
    CallbackCtx(llm_config=object(), worker_node_download_model="NONE", local_node_download_model=None)
    NodeCtx(model_id="m", node_id="n1", download_model=DownloadMode.NONE, custom_data={"a": 1})
    load_hooks("my.hooks", start, {"hook": "my.hooks:fetch", "kwargs": {"bucket": "b"}})
