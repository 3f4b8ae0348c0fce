"""``FakeStore``: what users' tests see of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks.recipes._stores.places import FAKE_STORE
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakeStore
from serve_llm_hooks_testing.fake_store import VARIABLE

if TYPE_CHECKING:
    from pathlib import Path


def test_the_recipes_look_for_the_variable_that_it_sets() -> None:
    assert VARIABLE == FAKE_STORE


def test_files_are_put_read_listed_and_deleted(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"from a file")
    with FakeStore({"s3://b/f/a": "text", "/mnt/a": b"bytes", "https://host/x": tmp_path / "large"}) as store:
        assert store.places() == ["/mnt/a", "https://host/x", "s3://b/f/a"]
        assert store.read("https://host/x") == b"from a file"
        store.put("abfss://container@account.dfs.core.windows.net/f", "azure")
        store.delete("s3://b/f")
        assert store.places() == ["abfss://container/f", "/mnt/a", "https://host/x"]


def test_it_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/before")
    with FakeStore({"s3://b/a": ""}) as store:
        root = store.disk("node-0").parents[1]
        assert root.exists()
    assert not root.exists()
    assert os.environ[VARIABLE] == "/before"


def test_what_is_wrong_with_its_use_is_told() -> None:
    with pytest.raises(ValueError, match="'models/a' is neither an absolute path nor a place"), FakeStore() as store:
        store.put("models/a", "")
    assert VARIABLE not in os.environ
    with pytest.raises(RuntimeError, match="is used in a with statement"):
        FakeStore().read("s3://b/a")


def test_it_reaches_processes_of_their_own() -> None:
    entry = {"hook": "serve_llm_hooks.recipes:Fetch", "kwargs": {"src": "gs://b/f", "dest": "/models/f"}}
    with FakeStore({"gs://b/f/a": "1"}) as store:
        run = FakeCluster(nodes=2, processes=True).run(FakeLLMConfig("m", hooks=[entry]))
        assert [store.disk(node_id, "/models/f/a").read_text() for node_id in run.nodes] == ["1", "1"]


def test_a_file_that_is_not_there_fails_as_in_production() -> None:
    entry = {"hook": "serve_llm_hooks.recipes:Fetch", "kwargs": {"src": "gs://b/f/a", "dest": "/models/f"}}
    with FakeStore():
        run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[entry]), check=False)
    assert "f/a is not there" in str(run.error)
