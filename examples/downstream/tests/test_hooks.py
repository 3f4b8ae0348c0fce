"""Acme's hooks on a fake cluster."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from acme_llm import hooks, store
from acme_llm.deployment import HOOKS

from serve_llm_hooks import (
    DownloadError,
    DownloadMode,
    HookError,
    HookTimeoutError,
    NodeInitializationError,
    NodeLostError,
    skip,
)
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    FakeRun,
    assert_not_run,
    assert_order,
    assert_ran_on,
    call_hook,
    callback_ctx,
    check_hooks,
    different_path,
    engine_answers_error,
    engine_fails,
    failing_download,
    hook_fails,
    lost_node,
    missing_module,
    node_ctx,
    replica_dies,
    slow_download,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE = "acme_llm.hooks"


def start(model_id: str = "acme/chat-7b", cluster: FakeCluster | None = None, **fields: Any) -> FakeRun:
    config = FakeLLMConfig(model_id, hooks=HOOKS, **fields)
    return (cluster or FakeCluster(nodes=3)).run(config, check=False)


def test_they_would_survive_production() -> None:
    check_hooks(*HOOKS)


def test_our_models_come_from_our_store() -> None:
    run = start()
    assert run.error is None
    assert [node.downloaded for node in run.nodes.values()] == [[], [], []]
    assert run.engine is not None
    assert run.engine.model_path == "/scratch/acme-models/acme/chat-7b"


def test_nodes_fetch_at_the_same_time() -> None:
    assert start().elapsed_s == 0.5 + 90 + 30


def test_other_models_are_downloaded_as_ever() -> None:
    run = start("meta-llama/Llama-3-8B")
    assert_not_run(run, "fetch_from_store", "chat_defaults", "tiny_models_are_baked_in")
    assert [node.downloaded for node in run.nodes.values()] == [[DownloadMode.MODEL_AND_TOKENIZER]] * 3


def test_tiny_models_touch_no_node() -> None:
    run = start("acme/chat-tiny")
    assert [node.tasks for node in run.nodes.values()] == [0, 0, 0]
    assert run.engine is not None
    assert run.engine.model_path == "/opt/models/acme/chat-tiny"
    assert_not_run(run, "check_node", "verify")


def test_everything_in_its_order() -> None:
    run = start()
    assert_order(
        run,
        "find_in_store",
        "other_nodes_need_no_tokenizer",
        "check_node",
        "fetch_from_store",
        "verify",
        "compare_checksums",
        "chat_defaults",
        "on_after_engine_init",
    )


def test_every_node_is_verified() -> None:
    assert_ran_on(start(), "verify", node_count=3)


def test_a_broken_node_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "KNOWN_BAD_NODES", {"node-2"})
    run = start()
    assert isinstance(run.error, NodeInitializationError)
    assert run.error.node_ids == ("node-2",)
    assert "broken disk" in str(run.error)


def test_a_store_that_breaks_on_one_node_is_told() -> None:
    run = start(cluster=FakeCluster(faults=[hook_fails("fetch_from_store", OSError("disk full"), node="node-1")]))
    assert isinstance(run.error, NodeInitializationError)
    assert run.error.node_ids == ("node-1",)
    assert "disk full" in str(run.error)


def test_nodes_that_hold_different_models() -> None:
    cluster = FakeCluster(faults=[different_path("node-1", "/elsewhere/and/longer")])
    run = start("meta-llama/Llama-3-8B", cluster)
    assert isinstance(run.error, HookError)
    assert "different models" in str(run.error)


def test_a_store_that_hangs_ends_at_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(*_: Any) -> str:
        await asyncio.sleep(1e6)
        return ""

    monkeypatch.setattr(store, "fetch", hangs)
    run = start()
    assert isinstance(run.error, NodeInitializationError)
    assert {type(error) for error in run.error.exceptions} == {HookTimeoutError}
    assert run.elapsed_s == pytest.approx(600.5)


@pytest.mark.parametrize("model_id", ["acme/chat-7b", "acme/chat-70b"])
def test_chat_models_get_our_defaults(model_id: str) -> None:
    run = start(model_id)
    assert run.engine is not None
    assert run.engine.kwargs["max_model_len"] == 8192
    assert run.engine.frontend_kwargs == {"chat_template": "/opt/templates/acme.jinja"}


def test_the_engine_is_warmed_up_once() -> None:
    run = start()
    assert run.engine is not None
    assert len(run.engine.requests) == 1


def test_a_failing_warm_up_stops_nobody(caplog: pytest.LogCaptureFixture) -> None:
    run = start(cluster=FakeCluster(faults=[engine_answers_error("no room", code=503)]))
    assert run.error is None
    assert "the warm-up has failed" in caplog.text


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (failing_download("node-1"), DownloadError),
        (lost_node("node-1", at="on_after_node_download"), NodeLostError),
        (slow_download("node-1", 1e5), NodeLostError),
    ],
    ids=["failing download", "lost node", "slow download"],
)
def test_the_pager_is_told(fault: Any, error: type[Exception], caplog: pytest.LogCaptureFixture) -> None:
    run = start("meta-llama/Llama-3-8B", FakeCluster(faults=[fault]))
    assert isinstance(run.error, NodeInitializationError)
    assert isinstance(run.error.exceptions[0], error)
    assert "acme-pager" in caplog.text


def test_the_pager_is_told_of_the_engine(caplog: pytest.LogCaptureFixture) -> None:
    run = start(cluster=FakeCluster(faults=[engine_fails("CUDA out of memory")]))
    assert isinstance(run.error, RuntimeError)
    assert "CUDA out of memory" in caplog.text
    assert_not_run(run, "on_after_engine_init", even_if_failed=True)


def test_our_package_is_missing_on_a_node() -> None:
    run = start(cluster=FakeCluster(faults=[missing_module("node-1", "acme_llm")]))
    assert "runtime_env" in str(run.error)


def test_a_restart_does_it_all_again() -> None:
    run = start(cluster=FakeCluster(faults=[replica_dies(at="on_before_engine_init")]))
    assert run.error is None
    assert run.not_idempotent == ()


def test_parameters_are_given_in_the_config() -> None:
    entry = {"hook": f"{MODULE}:fetch_from_store", "kwargs": {"bucket": "s3://mirror"}}
    run = FakeCluster().run(FakeLLMConfig("acme/chat-7b", hooks=[*HOOKS, entry]))
    assert run.engine is not None
    assert run.engine.model_path == "/scratch/mirror/acme/chat-7b"


def test_fetching_alone() -> None:
    ctx = node_ctx("acme/chat-7b", custom_data={"in_store": True})
    assert call_hook(hooks.fetch_from_store, ctx, folder="/fast") == skip("fetched from Acme's store")
    assert ctx.model_path == "/fast/acme-models/acme/chat-7b"


def test_looking_into_the_store_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_: str) -> bool:
        return False

    monkeypatch.setattr(store, "has", never)
    ctx = callback_ctx("acme/chat-7b")
    call_hook(hooks.find_in_store, ctx)
    assert ctx.custom_data == {"in_store": False}


def test_with_the_fixtures(make_fake_cluster: Callable[..., FakeCluster], fake_cluster: FakeCluster) -> None:
    assert len(fake_cluster.run(FakeLLMConfig("acme/chat-7b", hooks=HOOKS)).nodes) == 3
    assert len(make_fake_cluster(nodes=1).run(FakeLLMConfig("acme/chat-7b", hooks=HOOKS)).nodes) == 1
