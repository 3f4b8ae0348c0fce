"""Variables for all processes of a deployment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import CallbackCtx, EngineProcessCtx, HookError, NodeCtx, NodeInitializationError
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

if TYPE_CHECKING:
    from serve_llm_hooks import HookRegistry

EXPORT = {"hook": "serve_llm_hooks.recipes:ExportEnv", "kwargs": {"RECIPES_TEST": "s3cret"}}


@pytest.fixture(autouse=True)
def _variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica is the test's process on a fake cluster: what it sets is taken back."""
    monkeypatch.setenv("RECIPES_TEST", "of the image")


@pytest.mark.parametrize("processes", [False, True])
def test_each_process_has_it(hook_registry: HookRegistry, processes: bool) -> None:
    @hook_registry.hook("on_before_node_download")
    def look(ctx: NodeCtx) -> None:
        ctx.custom_data["seen"] = os.environ["RECIPES_TEST"]

    @hook_registry.hook("on_engine_process_start")
    def look_there(ctx: EngineProcessCtx) -> None:
        assert os.environ["RECIPES_TEST"] == "s3cret"

    config = FakeLLMConfig("m", hooks=[EXPORT, hook_registry], engine_kwargs={"tensor_parallel_size": 2})
    run = FakeCluster(nodes=2, processes=processes).run(config)
    assert run.ctx is not None
    assert [node.custom_data["seen"] for node in run.ctx.nodes.values()] == ["s3cret", "s3cret"]
    checked = [event.process for event in run.trace if event.process and "ExportEnv" in event.hook]
    assert checked == ["frontend", "config", "core", "worker-0", "worker-1"]


def test_a_node_where_it_has_not_arrived_ends_the_start(hook_registry: HookRegistry) -> None:
    @hook_registry.hook("on_before_node_download", order=-1)
    def spoil(ctx: NodeCtx) -> None:
        if not ctx.is_local:
            os.environ["RECIPES_TEST"] = "spoilt"

    with pytest.raises(NodeInitializationError, match="RECIPES_TEST has another value on this node") as caught:
        FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[EXPORT, hook_registry]))
    assert caught.value.node_ids == ("node-1",)
    assert "s3cret" not in str(caught.value)


def test_a_process_of_the_engine_where_it_has_not_arrived(hook_registry: HookRegistry) -> None:
    @hook_registry.hook("on_engine_process_start", order=-1)
    def spoil(ctx: EngineProcessCtx) -> None:
        if ctx.role == "worker":
            del os.environ["RECIPES_TEST"]

    with pytest.raises(HookError, match="RECIPES_TEST is not set in worker-0"):
        FakeCluster().run(FakeLLMConfig("m", hooks=[EXPORT, hook_registry]))


def test_two_values_of_one_variable(hook_registry: HookRegistry) -> None:
    @hook_registry.hook("on_before_init", order=-1)
    def another(ctx: CallbackCtx) -> None:
        ctx.runtime_env = {"env_vars": {"RECIPES_TEST": "another"}}

    hooks: list[Any] = [EXPORT]
    with pytest.raises(HookError, match=r"RECIPES_TEST has another value in ctx\.runtime_env"):
        FakeCluster().run(FakeLLMConfig("m", hooks=[*hooks, hook_registry]))
    run = FakeCluster().run(FakeLLMConfig("m", hooks=hooks, runtime_env={"env_vars": {"OTHER": "1"}}))
    assert run.ctx is not None
    assert run.ctx.runtime_env == {"env_vars": {"OTHER": "1", "RECIPES_TEST": "s3cret"}}
