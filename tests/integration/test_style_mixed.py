"""All the ways to write a callback in one config; on a fake cluster and on a real one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("vllm", reason="vLLM is not installed")

from ray.llm._internal.common.callbacks.base import CallbackBase

from serve_llm_hooks import HookRegistry, InitializeNodeOutput

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from serve_llm_hooks import CallbackCtx, NodeCtx

    from .conftest import Serve

HERE = __name__


def note(ctx: CallbackCtx | NodeCtx, who: str) -> None:
    ctx.custom_data["notes"] = [*ctx.custom_data.get("notes", []), who]


class Rays(CallbackBase):
    async def on_before_node_init(self) -> None:
        self.ctx.custom_data["notes"] = ["rays"]

    def on_before_download_model_files_distributed(self) -> None:
        self.ctx.custom_data["notes"] = [*self.ctx.custom_data["notes"], "rays on the node"]

    async def on_after_node_init(self) -> None:
        self.ctx.custom_data["notes"] = [*self.ctx.custom_data["notes"], "rays after"]


class Lean:
    """Class-style."""

    async def on_before_init(self, ctx: CallbackCtx) -> None:
        note(ctx, "lean")

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        note(ctx, "lean on the node")

    def on_after_placement_group(self, ctx: CallbackCtx) -> None:
        note(ctx, "lean after")

    def on_custom_init(self, ctx: CallbackCtx) -> None:
        note(ctx, "lean custom")


def phases(phase: str, config: Any, data: MutableMapping[str, Any]) -> dict[str, Any] | None:
    if phase in ("pre_initialization", "post_placement_group", "custom_initialization"):
        return {"notes": [*data["notes"], f"phase {phase}"]}
    return None


hooks = HookRegistry()


@hooks.hook("on_before_init")
def function(ctx: CallbackCtx) -> None:
    note(ctx, "function")


@hooks.hook("on_before_init", order=1)
def late(ctx: CallbackCtx) -> None:
    note(ctx, "late")


@hooks.hook("on_before_node_download")
def function_on_node(ctx: NodeCtx) -> None:
    note(ctx, "function on the node")


@hooks.hook("on_after_placement_group", before="phases")
def function_after(ctx: CallbackCtx) -> None:
    note(ctx, "function after")


ALL: dict[str, Any] = {
    "hooks": [hooks],
    "callbacks": [phases],
    "callback": Lean,
    "callback_config": {"callback_class": Rays},
}


def test_one_order_in_every_process(serve: Serve) -> None:
    started = serve(**ALL)
    assert started.ctx.custom_data["notes"] == [
        "rays",
        "lean",
        "phase pre_initialization",
        "function",
        "late",
        "rays after",
        "lean after",
        "function after",  # before="phases"
        "phase post_placement_group",
    ]
    for node_id, node in started.ctx.nodes.items():
        assert node.custom_data["notes"][5:] == ["rays on the node", "lean on the node", "function on the node"]
        assert [event.hook.rpartition(":")[2] for event in started.on_node(node_id)] == [
            "Rays.on_before_download_model_files_distributed",
            "Lean.on_before_node_download",
            "function_on_node",
        ]
    assert [event.hook.rpartition(":")[2] for event in started.replica if event.point == "on_before_init"] == [
        "Rays.on_before_node_init",
        "Lean.on_before_init",
        "phases",
        "function",
        "late",
    ]


class Replaces:
    async def initialize(self, llm_config: Any) -> InitializeNodeOutput:
        return InitializeNodeOutput(extra_init_kwargs={"max_model_len": 128})


@pytest.mark.filterwarnings("ignore:initialization_class:DeprecationWarning")
def test_with_one_that_replaces_everything(serve: Serve) -> None:
    started = serve(**ALL, initialization_class=Replaces)
    assert [(event.hook.rpartition(":")[2], event.point) for event in started.replica if event.point.endswith("_init")][
        :8
    ] == [
        ("Rays.on_before_node_init", "on_before_init"),
        ("Replaces", "on_before_init"),
        ("Lean.on_before_init", "on_before_init"),
        ("phases", "on_before_init"),
        ("function", "on_before_init"),
        ("late", "on_before_init"),
        ("Replaces.initialize", "on_custom_init"),
        ("Lean.on_custom_init", "on_custom_init"),
    ]
    assert started.ctx.custom_data["notes"][-2:] == ["lean custom", "phase custom_initialization"]
    assert started.output.extra_init_kwargs == {"max_model_len": 128}
    assert dict(started.ctx.nodes) == {}
