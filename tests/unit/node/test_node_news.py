"""The news that a node's process tells the replica while it works; Ray's key-value store is a stand-in."""

from __future__ import annotations

import sys
import threading
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks.ray import key_value_store, node_news
from serve_llm_hooks.ray.node_news import NodeNews, telling
from tests.unit.stub import node_task

if TYPE_CHECKING:
    from collections.abc import Iterator


class Store(ModuleType):
    """The store, of which a test can wait for a change."""

    def __init__(self) -> None:
        super().__init__("ray.experimental.internal_kv")
        self.values: dict[str, bytes] = {}
        self.changed = threading.Condition()

    def _internal_kv_put(self, key: str, value: bytes, *, namespace: str) -> None:
        with self.changed:
            self.values[key] = value
            self.changed.notify_all()

    def _internal_kv_get(self, key: str, *, namespace: str) -> bytes | None:
        if "broken" in key:
            raise ConnectionError
        return self.values.get(key)

    def _internal_kv_del(self, key: str, *, namespace: str) -> None:
        with self.changed:
            del self.values[key]
            self.changed.notify_all()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A process that is connected to Ray."""
    store = Store()
    for name in ("ray", "ray.experimental"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, store.__name__, store)
    monkeypatch.setattr(key_value_store, "is_connected", lambda: True)
    return store


def test_the_replica_hears_what_a_task_waits_for_until_it_is_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_news, "EVERY_S", 0.005)
    news, task = NodeNews(), node_task([])
    key, every_s = news.expect(task)
    assert news.lines() == []
    with telling(key, every_s, lambda: "the download from s3://models/m, 12 GB written"):
        with store.changed:
            assert store.changed.wait_for(lambda: store.values, 30)
        assert news.lines() == ["node n0: the download from s3://models/m, 12 GB written"]
    with store.changed:
        assert store.changed.wait_for(lambda: not store.values, 30)
    assert news.lines() == []
    news.forget(task)
    assert not news._running


def test_of_many_nodes_some_are_told(store: Store) -> None:
    news = NodeNews()
    tasks = [node_task([], node_id=f"n{number}") for number in range(11)]
    for task in tasks:
        key, _ = news.expect(task)
        store.values[key] = b"a hook"
    assert news.lines() == [*(f"node n{number}: a hook" for number in range(8)), "and 3 nodes more"]


def test_a_store_that_fails_is_no_news(store: Store) -> None:
    news, task = NodeNews(), node_task([])
    news._running[id(task)] = ("broken", task.node)
    assert news.lines() == []


def test_a_task_that_is_quick_or_has_no_key_tells_nothing(store: Store) -> None:
    for key in ("", "a"):
        with telling(key, 60, lambda: "a hook"):
            pass
    assert store.values == {}
