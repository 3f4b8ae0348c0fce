"""Ray's own callbacks, as people have them, in our ``LLMConfig``; on a fake cluster and on a real one."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("vllm", reason="vLLM is not installed")

from ray.llm._internal.common.callbacks.base import CallbackBase, CallbackCtx
from ray.llm._internal.common.utils.download_utils import NodeModelDownloadable

from serve_llm_hooks import (
    CallbackCtx as HooksCtx,
    DownloadMode,
    HookError,
    HookLoadError,
    HookRegistry,
    HookSignatureError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from serve_llm_hooks import NodeCtx

    from .conftest import Serve

HERE = __name__

FIELDS = ("worker_node_download_model", "placement_group", "runtime_env", "custom_data", "run_init_node")


def fields(ctx: CallbackCtx) -> dict[str, Any]:
    """Ray's context, as it is now."""
    return {name: getattr(ctx, name) for name in FIELDS} | {"custom_data": sorted(ctx.custom_data)}


class Mirror(CallbackBase):
    """Uses all three methods, and changes every field that Ray's context has."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        assert self.llm_config.model_id == "m"
        self.ctx.custom_data["constructed"] = self.raise_error_on_callback
        self.steps = ["constructed"]
        self.seen: dict[str, Any] = {}

    async def on_before_node_init(self) -> None:
        self.seen["before"] = fields(self.ctx)
        self.steps.append("before")
        self.ctx.worker_node_download_model = NodeModelDownloadable.TOKENIZER_ONLY
        self.ctx.runtime_env = {"env_vars": {"MIRROR": "1"}}
        self.ctx.custom_data["store"] = self.kwargs["store"]

    def on_before_download_model_files_distributed(self) -> None:
        assert self.steps == ["constructed", "before"]  # what is on self travels, as with Ray
        assert self.ctx.worker_node_download_model is NodeModelDownloadable.TOKENIZER_ONLY
        assert self.ctx.custom_data["store"] == "/store"
        self.ctx.custom_data["pid"] = os.getpid()
        self.ctx.worker_node_download_model = NodeModelDownloadable.NONE

    async def on_after_node_init(self) -> None:
        self.seen["after"] = fields(self.ctx)
        self.steps.append("after")
        self.ctx.placement_group = self.kwargs["make_group"](3)
        self.ctx.custom_data = {**self.ctx.custom_data, "callback": self}


around = HookRegistry()


@around.hook("on_before_init", order=-1)
def before_it(ctx: HooksCtx) -> None:
    ctx.worker_node_download_model = "EXCLUDE_SAFETENSORS"
    ctx.runtime_env = {"env_vars": {"OURS": "1"}}
    ctx.custom_data["ours"] = True


@around.hook("on_before_download")
def between(ctx: HooksCtx) -> None:
    assert ctx.worker_node_download_model is DownloadMode.TOKENIZER_ONLY
    assert ctx.runtime_env == {"env_vars": {"MIRROR": "1"}}
    assert sorted(ctx.custom_data) == ["constructed", "ours", "store"]
    ctx.custom_data["group"] = ctx.placement_group


@around.hook("on_after_node_download")
def on_the_node(ctx: NodeCtx) -> None:
    ctx.custom_data["mode"] = ctx.download_model.name


@around.hook("on_after_placement_group", order=-1)
def before_the_last(ctx: HooksCtx) -> None:
    ctx.runtime_env = {"env_vars": {"LAST": "1"}}


def test_three_methods_between_two_contexts_in_step(serve: Serve) -> None:
    started = serve(
        hooks=[around],
        callback_config={
            "callback_class": Mirror,
            "callback_kwargs": {"store": "/store", "make_group": serve.make_group},
        },
    )

    ctx = started.ctx
    callback = ctx.custom_data["callback"]
    assert callback.steps == ["constructed", "before", "after"]
    assert callback.seen["before"] == {
        "worker_node_download_model": NodeModelDownloadable.EXCLUDE_SAFETENSORS,
        "placement_group": None,  # Serve's, in a replica
        "runtime_env": {"env_vars": {"OURS": "1"}},
        "custom_data": ["constructed", "ours"],
        "run_init_node": True,
    }
    assert callback.seen["after"] == {
        "worker_node_download_model": NodeModelDownloadable.TOKENIZER_ONLY,
        "placement_group": ctx.custom_data["group"],
        "runtime_env": {"env_vars": {"LAST": "1"}},
        "custom_data": ["constructed", "group", "ours", "store"],
        "run_init_node": True,
    }
    assert started.output.placement_group is ctx.placement_group
    assert started.output.placement_group is not ctx.custom_data["group"]
    assert started.output.runtime_env == {"env_vars": {"LAST": "1"}}
    for node in ctx.nodes.values():
        assert node.custom_data["store"] == "/store"
        assert node.custom_data["mode"] == "NONE"
        assert isinstance(node.custom_data["pid"], int)
    own = [event for event in ctx.trace if event.hook.startswith(f"{HERE}:Mirror.")]
    assert [(event.name, event.point) for event in own] == [
        ("on_before_node_init", "on_before_init"),
        *[("on_before_download_model_files_distributed", "on_before_node_download")] * 3,
        ("on_after_node_init", "on_after_placement_group"),
    ]


class LeaveTheNodesAlone(CallbackBase):
    """Decides in its constructor; has one method, which need not be async."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ctx.run_init_node = False

    def on_after_node_init(self) -> None:  # type: ignore[override]  # Ray calls it either way
        self.ctx.custom_data["after"] = self.ctx.run_init_node


@pytest.mark.parametrize("given", [LeaveTheNodesAlone, f"{HERE}.LeaveTheNodesAlone"])
def test_run_init_node_by_class_and_by_path(serve: Serve, given: Any) -> None:
    started = serve(callback_config={"callback_class": given})
    assert dict(started.ctx.nodes) == {}
    assert started.ctx.custom_data == {"after": False}
    assert started.config.callback_config.callback_class is given


class Fails(CallbackBase):
    async def on_before_node_init(self) -> None:
        self.ctx.custom_data["tried"] = True
        self.ctx.runtime_env = {"env_vars": {"TRIED": "1"}}
        raise OSError("no metrics server")


def test_a_failing_method_ends_the_start(serve: Serve) -> None:
    with pytest.raises(HookError, match=r"Fails\.on_before_node_init failed at on_before_init .*no metrics server"):
        serve(callback_config={"callback_class": Fails})


def test_a_failing_method_that_may_fail(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="serve_llm_hooks")
    started = serve(callback_config={"callback_class": Fails, "raise_error_on_callback": False})
    assert [event.outcome for event in started.ctx.trace] == ["warned"]
    assert "no metrics server" in caplog.text
    # What it did before it failed, it did; as in Ray.
    assert started.ctx.custom_data == {"tried": True}
    assert started.output.runtime_env == {"env_vars": {"TRIED": "1"}}


class FailsOnNodes(CallbackBase):
    def on_before_download_model_files_distributed(self) -> None:
        self.ctx.custom_data["tried"] = True
        raise OSError("no disk")


def test_a_failing_method_on_nodes(serve: Serve) -> None:
    started = serve(callback_config={"callback_class": FailsOnNodes, "raise_error_on_callback": False})
    assert [node.custom_data for node in started.ctx.nodes.values()] == [{"tried": True}] * 3
    with pytest.raises(Exception, match=r"FailsOnNodes\.on_before_download_model_files_distributed .*no disk"):
        serve(callback_config={"callback_class": FailsOnNodes})


def test_rays_cloud_downloader(serve: Serve, bucket: str, tmp_path: Path) -> None:
    target = tmp_path / "adapter"
    started = serve(
        callback_config={
            "callback_class": "ray.llm._internal.common.callbacks.cloud_downloader.CloudDownloader",
            "callback_kwargs": {"paths": [(bucket, str(target))]},
        }
    )
    assert sorted(file.name for file in target.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert [(event.name, event.outcome) for event in started.ctx.trace] == [
        ("on_before_node_init", "ok"),
        *[("on_before_download_model_files_distributed", "ok")] * 3,
    ]


def test_rays_cloud_downloader_without_paths(serve: Serve) -> None:
    with pytest.raises(HookError, match="CloudDownloader requires 'paths' field in kwargs"):
        serve(
            callback_config={
                "callback_class": "ray.llm._internal.common.callbacks.cloud_downloader.CloudDownloader",
                "raise_error_on_callback": True,
            }
        )


def test_rays_default_is_nothing() -> None:
    from serve_llm_hooks.ray import LLMConfig

    assert LLMConfig(model_id="m", hooks=[], accelerator_config={"kind": "cpu"}).callback_hooks() == []


class Spans(CallbackBase):
    async def on_after_node_init(self) -> AsyncIterator[None]:  # type: ignore[override]  # the mistake under test
        yield


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        (
            "builtins.dict",
            HookLoadError,
            "is no subclass of Ray's CallbackBase; a class of yours goes into callback=...",
        ),
        ("no_such_pkg.Callback", ImportError, "module 'no_such_pkg' cannot be found"),
        (f"{HERE}.Mirorr", AttributeError, "has no 'Mirorr' (did you mean 'Mirror'?)"),
        ("Mirror", ValueError, "'Mirror' is no path of a callback"),
        (f"{HERE}.Spans", HookSignatureError, "Spans.on_after_node_init in callback_config has a `yield`"),
    ],
)
def test_wrong_ones_are_told_when_the_config_is_made(given: Any, error: type[Exception], says: str) -> None:
    from serve_llm_hooks.ray import LLMConfig

    with pytest.raises(error) as caught:
        LLMConfig(model_id="m", hooks=[], accelerator_config={"kind": "cpu"}, callback_config={"callback_class": given})
    assert says in str(caught.value)
