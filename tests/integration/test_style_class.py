"""A callback as a class, as its author has it; on a fake cluster and on a real one."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    HookError,
    HookLoadError,
    HookPickleError,
    HookSignatureError,
    NodeInitializationError,
    RayServeLLMCallback,
    skip,
)

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, NodeCtx, Skip

    from .conftest import Serve

HERE = __name__


class ModelCache(RayServeLLMCallback):
    """Fetches the model itself, on every node, and says in the replica how that went."""

    def __init__(self, store: str, context: int = 4096) -> None:
        self.store = store
        self.context = context
        self.steps: list[str] = []

    async def on_before_init(self, ctx: CallbackCtx) -> None:
        self.steps.append("set up")
        ctx.custom_data["token"] = f"for {ctx.model_id}"

    def on_before_node_download(self, ctx: NodeCtx) -> Skip:
        self.steps.append("fetch")
        ctx.model_path = f"{self.store}/{ctx.model_id}"
        return skip("we fetch it ourselves")

    async def on_after_node_download(self, ctx: NodeCtx) -> None:
        self.steps.append("verify")
        ctx.custom_data["steps"] = self.steps
        ctx.custom_data["pid"] = os.getpid()

    def on_after_download(self, ctx: CallbackCtx) -> None:
        self.steps.append(f"{len(ctx.nodes)} nodes")

    def on_before_engine_init(self, ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["max_model_len"] = self.context

    async def on_after_init(self, ctx: CallbackCtx) -> None:
        ctx.custom_data["report"] = self.steps


@pytest.mark.parametrize("callback", [ModelCache, f"{HERE}:ModelCache", f"{HERE}.ModelCache"])
def test_a_class_and_its_arguments(serve: Serve, callback: Any) -> None:
    started = serve(callback=callback, callback_kwargs={"store": "/store", "context": 128})

    assert started.config.callback is callback
    assert started.output.extra_init_kwargs == {"max_model_len": 128}
    assert started.ctx.model_path == "/store/m"
    assert started.ctx.custom_data == {"token": "for m", "report": ["set up", "3 nodes"]}
    assert len(started.ctx.nodes) == 3
    for node in started.ctx.nodes.values():
        assert node.skipped == "we fetch it ourselves"
        # One object for both methods there, which is not the replica's.
        assert node.custom_data["steps"] == ["fetch", "verify"]
        assert node.custom_data["token"] == "for m"
        events = started.on_node(node.node_id)
        assert [(event.name, event.outcome) for event in events] == [
            ("on_before_node_download", "vetoed"),
            ("on_after_node_download", "ok"),
        ]
        assert events[0].hook == f"{HERE}:ModelCache.on_before_node_download"
    assert [event.name for event in started.replica] == [
        "on_before_init",
        "on_after_download",
        "on_before_engine_init",
        "on_after_init",
    ]


def test_an_object(serve: Serve) -> None:
    mine = ModelCache("/store")
    started = serve(callback=mine)
    assert started.config.callback is mine
    assert mine.steps == ["set up", "3 nodes"]
    # A node has a copy, as it was when it was sent.
    assert [node.custom_data["steps"] for node in started.ctx.nodes.values()] == [["set up", "fetch", "verify"]] * 3


def test_beside_functions_in_hooks(serve: Serve) -> None:
    started = serve(hooks=[{"hook": f"{HERE}:ModelCache", "kwargs": {"store": "/store"}}])
    assert started.ctx.custom_data["report"] == ["set up", "3 nodes"]
    again = serve(hooks=[{"hook": ModelCache, "kwargs": {"store": "/store"}}])
    assert again.ctx.custom_data["report"] == ["set up", "3 nodes"]  # another run, another object


class BrokenDisk:
    """A plain class does as well."""

    def __init__(self) -> None:
        self.begun = False

    def on_before_init(self, ctx: CallbackCtx) -> None:
        self.begun = True

    def on_after_node_download(self, ctx: NodeCtx) -> None:
        if not ctx.is_local:
            raise OSError(28, "No space left on device")

    def on_failure(self, ctx: CallbackCtx) -> None:
        assert self.begun
        ctx.custom_data["failed"] = type(ctx.error).__name__


def test_a_failing_method(serve: Serve) -> None:
    with pytest.raises(
        NodeInitializationError, match=r"BrokenDisk\.on_after_node_download failed .*No space"
    ) as caught:
        serve(callback=BrokenDisk)
    assert len(caught.value.exceptions) == 2
    assert all(isinstance(error, HookError) for error in caught.value.exceptions)
    assert serve.ctx is not None
    assert serve.ctx.custom_data["failed"] == "NodeInitializationError"


class OwnGroup(RayServeLLMCallback):
    """Skips the defaults, and brings a placement group."""

    def __init__(self, make_group: Any) -> None:
        self.make_group = make_group

    def on_before_init(self, ctx: CallbackCtx) -> bool:
        return False

    async def on_custom_init(self, ctx: CallbackCtx) -> None:
        self.group = ctx.placement_group = self.make_group(2)
        ctx.model_path = "/baked"

    def on_after_init(self, ctx: CallbackCtx) -> None:
        assert ctx.placement_group is self.group


def test_the_defaults_skipped(serve: Serve) -> None:
    callback = OwnGroup(serve.make_group)
    started = serve(callback=callback)
    assert started.output.placement_group is callback.group
    assert dict(started.ctx.nodes) == {}
    assert [event.name for event in started.replica] == ["on_before_init", "on_custom_init", "on_after_init"]


class Locked(RayServeLLMCallback):
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


def test_an_object_that_cannot_be_sent_to_a_replica() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    import cloudpickle

    from serve_llm_hooks.ray import LLMConfig

    config = LLMConfig(model_id="m", hooks=[], callback=Locked(), accelerator_config={"kind": "cpu"})
    with pytest.raises(HookPickleError, match=r"Locked\.on_after_init .* the attribute 'lock' of its object \(lock\)"):
        cloudpickle.dumps(config)


def test_what_is_wrong_is_told_when_the_config_is_made() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    from serve_llm_hooks.ray import LLMConfig

    def make(**fields: Any) -> None:
        LLMConfig(model_id="m", hooks=[], accelerator_config={"kind": "cpu"}, **fields)

    with pytest.raises(HookSignatureError, match=r"there is no 'stroe' \(did you mean 'store'\?\)"):
        make(callback=ModelCache, callback_kwargs={"stroe": "/store"})
    with pytest.raises(HookLoadError, match=r"callback_kwargs=.* without callback="):
        make(callback_kwargs={"store": "/store"})
    with pytest.raises(AttributeError, match="did you mean 'ModelCache'"):
        make(callback=f"{HERE}:ModelCach")
    with pytest.raises(ValueError, match="'ModelCache' is no path of a callback"):
        make(callback="ModelCache")
    with pytest.raises(HookLoadError, match="callbacks= is a list"):
        make(callbacks="pkg.mod:fn")
    with pytest.raises(TypeError, match="a callback is a callable or its path"):
        make(callbacks=[3])
    # What the replica will have, this process need not.
    make(callback="shipped.callbacks:Mine", runtime_env={"working_dir": "s3://code/app.zip"})
