"""A webhook is told, and nothing depends on it."""

from __future__ import annotations

import logging
import sys
import time
import types
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import RayServeLLMCallback
from serve_llm_hooks.recipes import _notified, notify
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, callback_ctx, engine_fails, failing_download

if TYPE_CHECKING:
    from .conftest import Webhook


def config(**kwargs: Any) -> FakeLLMConfig:
    return FakeLLMConfig("llama", hooks=[{"hook": "serve_llm_hooks.recipes:Notify", "kwargs": kwargs}])


def test_ready_and_shutdown_are_told(webhook: Webhook) -> None:
    run = FakeCluster().run(config(url=webhook.url))
    run.shut_down()
    assert webhook.sent == [
        {"event": "ready", "model_id": "llama", "text": "llama is ready"},
        {"event": "shutdown", "model_id": "llama", "text": "llama stops"},
    ]


def test_a_failure_is_told_with_cause_and_nodes(webhook: Webhook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERTS", webhook.url)
    cluster = FakeCluster(nodes=2, faults=[failing_download("node-1", "403 Forbidden")])
    cluster.run(config(url="$ALERTS"), check=False)
    (sent,) = webhook.sent
    assert (sent["event"], sent["nodes"]) == ("failure", ["node-1"])
    assert sent["error"].startswith("NodeInitializationError: 1 node of model 'llama' could not be initialized")
    assert "403 Forbidden" in sent["text"]


def test_slack_gets_a_text(webhook: Webhook) -> None:
    cluster = FakeCluster(faults=[engine_fails("CUDA out of memory")])
    cluster.run(config(url=webhook.url, style="slack", events=["failure"]), check=False)
    assert webhook.sent == [{"text": "llama has failed to start: RuntimeError: CUDA out of memory"}]


def test_a_webhook_that_is_wrong_ends_no_start(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    webhook.status = 500
    with caplog.at_level(logging.WARNING, "serve_llm_hooks"):
        FakeCluster().run(config(url=webhook.url))
        FakeCluster().run(config(url="http://127.0.0.1:9/secret-path"))
        FakeCluster().run(config(url="$RECIPES_NOT_SET"))
    warned = [record.getMessage() for record in caplog.records]
    assert warned == [
        "model 'llama': 'ready' could not be told: the webhook answers with 500",
        "model 'llama': 'ready' could not be told: the webhook cannot be reached: ConnectionRefusedError",
        "model 'llama': 'ready' could not be told: RECIPES_NOT_SET is not set",
    ]


def test_the_address_is_in_no_log(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        FakeCluster().run(config(url=webhook.url))
        FakeCluster().run(config(url="http://127.0.0.1:9/secret-path"))
    assert len(webhook.sent) == 1
    assert "could not be told" in caplog.text
    assert "secret-path" not in caplog.text


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1:9/secret-path"])
def test_a_variable_with_no_address_of_a_webhook_is_told(
    address: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ALERTS", address)
    FakeCluster().run(config(url="$ALERTS"))
    assert "could not be told: the webhook's address does not begin with https:// or http://" in caplog.text
    assert address not in caplog.text


def test_a_redirect_is_no_success(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    webhook.status, webhook.headers = 302, {"Location": webhook.url}
    FakeCluster().run(config(url=webhook.url, events=["ready"]))
    assert "the webhook answers with 302" in caplog.text


def test_user_and_password_of_an_address_are_sent_as_such(webhook: Webhook) -> None:
    FakeCluster().run(config(url=webhook.url.replace("://", "://me:pass%20word@"), events=["ready"]))
    assert webhook.authorizations == ["Basic bWU6cGFzcyB3b3Jk"]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Ray's key-value store, with no Ray behind it: what Ray's own promises of ``_internal_kv_put`` are kept."""
    store: dict[str, bytes] = {}

    def put(key: str, value: bytes, overwrite: bool = True, *, namespace: str) -> bool:
        exists = key in store
        if overwrite or not exists:
            store[key] = value
        return exists

    names: dict[str, dict[str, Any]] = {
        "ray": {"is_initialized": lambda: True, "__path__": []},
        "ray.experimental": {"__path__": []},
    }
    kv: dict[str, Any] = {
        "_internal_kv_put": put,
        "_internal_kv_get": lambda key, *, namespace: store.get(key),
        "_internal_kv_del": lambda key, *, namespace: store.pop(key, None),
    }
    for name, content in {**names, "ray.experimental.internal_kv": kv}.items():
        module = types.ModuleType(name)
        vars(module).update(dict(content))
        monkeypatch.setitem(sys.modules, name, module)
    context = types.SimpleNamespace(app_name="app", deployment="LLMServer:llama", code_version="v1")
    serve = types.ModuleType("ray.serve")
    vars(serve).update(get_replica_context=lambda: context)
    monkeypatch.setitem(sys.modules, "ray.serve", serve)
    return store


def test_the_tries_of_a_rollout_are_told_once(webhook: Webhook, store: dict[str, bytes]) -> None:
    broken = FakeCluster(faults=[engine_fails("CUDA out of memory")])
    for _ in range(3):
        broken.run(config(url=webhook.url), check=False)
    (sent,) = webhook.sent
    assert (sent["application"], sent["deployment"], sent["version"]) == ("app", "LLMServer:llama", "v1")

    sys.modules["ray.serve"].get_replica_context().code_version = "v2"
    broken.run(config(url=webhook.url), check=False)
    assert [each["version"] for each in webhook.sent] == ["v1", "v2"]

    FakeCluster().run(config(url=webhook.url, events=["failure"]))  # it is well again
    broken.run(config(url=webhook.url), check=False)
    assert [each["event"] for each in webhook.sent] == ["failure"] * 3

    for key in store:
        store[key] = b"0"  # long ago
    broken.run(config(url=webhook.url), check=False)
    assert len(webhook.sent) == 4


def test_a_failure_that_could_not_be_told_is_told_by_the_next_try(webhook: Webhook, store: dict[str, bytes]) -> None:
    broken = FakeCluster(faults=[engine_fails("CUDA out of memory")])
    webhook.status = 503
    broken.run(config(url=webhook.url), check=False)
    webhook.status = 200
    for _ in range(2):
        broken.run(config(url=webhook.url), check=False)
    assert len(webhook.sent) == 2  # one in vain, and one


def test_a_replica_that_is_killed_while_it_tells_its_failure_silences_no_other(
    webhook: Webhook, store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """Nothing comes after it."""

    def dies(*_: object) -> None:
        raise Killed

    def a_try(*, seconds_later: float) -> None:
        clock = types.SimpleNamespace(time=lambda: time.time() + seconds_later)
        with monkeypatch.context() as patch:
            patch.setattr(_notified, "time", clock)
            ctx = callback_ctx("llama", error=RuntimeError("CUDA out of memory"))
            notify.Notify(webhook.url, timeout_s=2).on_failure(ctx)

    with monkeypatch.context() as patch:
        patch.setattr(notify, "post", dies)
        with pytest.raises(Killed):
            a_try(seconds_later=0)
    a_try(seconds_later=11)
    assert webhook.sent == []  # the first one might still be at it
    a_try(seconds_later=13)
    assert len(webhook.sent) == 1
    a_try(seconds_later=3000)
    assert len(webhook.sent) == 1


@pytest.fixture
def no_store(store: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """A key-value store that answers nothing."""

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("the GCS is gone")

    for name in ("_internal_kv_put", "_internal_kv_get", "_internal_kv_del"):
        monkeypatch.setattr(sys.modules["ray.experimental.internal_kv"], name, fail)


@pytest.mark.usefixtures("no_store")
@pytest.mark.parametrize("events", [["ready"], ["ready", "failure"]])
def test_without_the_key_value_store_a_good_start_is_one(webhook: Webhook, events: list[str]) -> None:
    FakeCluster().run(config(url=webhook.url, events=events))
    assert [each["event"] for each in webhook.sent] == ["ready"]


@pytest.mark.usefixtures("no_store")
def test_without_the_key_value_store_a_failure_is_told(webhook: Webhook, caplog: pytest.LogCaptureFixture) -> None:
    FakeCluster(faults=[engine_fails("CUDA out of memory")]).run(config(url=webhook.url), check=False)
    assert [each["event"] for each in webhook.sent] == ["failure"]
    assert "whether its failure has been told is not known: RuntimeError" in caplog.text


@pytest.mark.usefixtures("no_store")
def test_where_no_failure_is_told_the_key_value_store_is_left_alone(
    webhook: Webhook, caplog: pytest.LogCaptureFixture
) -> None:
    FakeCluster().run(config(url=webhook.url, events=["ready"]))
    assert caplog.text == ""


def test_a_failure_of_another_hook_is_not_hidden(webhook: Webhook) -> None:
    class Fails(RayServeLLMCallback):
        def on_after_init(self, ctx: object) -> None:
            raise LookupError("no such board")

    broken = FakeLLMConfig(
        "llama", hooks=[Fails, {"hook": "serve_llm_hooks.recipes:Notify", "kwargs": {"url": webhook.url}}]
    )
    FakeCluster().run(broken, check=False)
    assert [each["event"] for each in webhook.sent] == ["failure"]
