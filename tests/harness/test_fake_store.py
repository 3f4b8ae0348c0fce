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
    with pytest.raises(ValueError, match="'s3:///a' is neither an absolute path nor a place"), FakeStore() as store:
        store.put("s3:///a", "")
    assert VARIABLE not in os.environ
    with pytest.raises(RuntimeError, match="is used in a with statement"):
        FakeStore().read("s3://b/a")


@pytest.mark.parametrize(
    ("place", "src", "name"),
    [
        ("s3://b/x/a#1.json", "s3://b/x", "a#1.json"),
        ("s3://b/x/a?1.json", "s3://b/x/", "a?1.json"),
        ("s3://b/x/a%20b.json", "s3://b/x/a%20b.json", "a%20b.json"),
        ("gs://b/x/[1]/$a;b@c.json", "gs://b/x", "[1]/$a;b@c.json"),
        ("abfss://c@account.dfs.core.windows.net/x/a@2.json", "abfss://c@account.dfs.core.windows.net/x", "a@2.json"),
        ("https://host:8080/a%20b.json", "https://host:8080/a%20b.json", "a b.json"),
        ("https://h/a b.json", "https://h/a%20b.json", "a b.json"),
        ("https://h/a%2520b.json", "https://h/a%2520b.json", "a%20b.json"),
        ("https://h/%3Fa%23.json", "https://h/%3Fa%23.json", "?a#.json"),
        ("file:///mnt/a%20b.json", "file:///mnt/a%20b.json", "a b.json"),
        ("file://localhost/mnt/a.json", "/mnt/a.json", "a.json"),
        ("/mnt/a%20b#.json", "/mnt/a%20b#.json", "a%20b#.json"),
    ],
)
def test_a_place_is_read_as_recipes_read_it(place: str, src: str, name: str) -> None:
    entry = {"hook": "serve_llm_hooks.recipes:Fetch", "kwargs": {"src": src, "dest": "/models/f"}}
    with FakeStore({place: "1"}) as store:
        FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[entry]))
        assert store.disk("node-0", f"/models/f/{name}").read_text() == "1"
        [told] = store.places()
        assert store.read(told) == store.read(place) == b"1"


@pytest.mark.parametrize("src", ["hf://o/m@v1", "hf://o/m@v2", "hf://o/m"])
def test_a_revision_is_another_model_where_the_store_has_it(src: str) -> None:
    entry = {"hook": "serve_llm_hooks.recipes:FetchModel", "kwargs": {"src": src, "dest": "/models/f"}}
    revisions = {"hf://o/m": "any", "hf://o/m@v1": "v1"}
    files = {f"{model}/{name}": text for model, text in revisions.items() for name in ("config.json", "a.safetensors")}
    with FakeStore(files) as store:
        FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[entry]))
        assert store.disk("node-0", "/models/f/config.json").read_text() == revisions.get(src, "any")


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
