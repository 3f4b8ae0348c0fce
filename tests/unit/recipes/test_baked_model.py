"""A model that every node has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakeStore, node_ctx

if TYPE_CHECKING:
    from pathlib import Path

NAME = "serve_llm_hooks.recipes:BakedModel"
FETCH = "serve_llm_hooks.recipes:Fetch"


def entry(**kwargs: Any) -> dict[str, Any]:
    return {"hook": NAME, "kwargs": kwargs}


def test_the_engine_loads_what_is_there_and_nothing_is_downloaded(folder: Path) -> None:
    run = FakeCluster(nodes=3).run(FakeLLMConfig("m", hooks=[entry(path=str(folder))]))
    assert run.engine is not None
    assert run.engine.model_path == str(folder)
    assert [node.downloaded for node in run.nodes.values()] == [[], [], []]
    assert [event.node_id for event in run.trace if event.point == "on_before_node_download"] == list(run.nodes)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_fetch_may_bring_it_wherever_it_is_listed(folder: Path, tmp_path: Path, is_first: bool) -> None:
    dest = str(tmp_path / "dest")
    hooks = [entry(path=dest), {"hook": FETCH, "kwargs": {"src": str(folder), "dest": dest}}]
    run = FakeCluster().run(FakeLLMConfig("m", hooks=hooks if is_first else hooks[::-1]))
    assert run.engine is not None
    assert run.engine.model_path == dest


@pytest.mark.parametrize(
    "places",
    [
        ["s3://b/m/config.json", "s3://b/m/m.safetensors"],
        ["/opt/m/config.json", "/opt/m/m.safetensors", "s3://b/m/chat.jinja"],
        ["s3://b/m/config.json", "/opt/m/m.safetensors"],
    ],
)
def test_a_fake_store_stands_for_its_folder(places: list[str]) -> None:
    hooks = [{"hook": FETCH, "kwargs": {"src": "s3://b/m", "dest": "/opt/m"}}, entry(path="/opt/m")]
    with FakeStore(dict.fromkeys(places, "{}")) as store:
        run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=hooks))
        assert run.engine is not None
        assert run.engine.model_path == "/opt/m"
        store.delete(next(place for place in places if place.endswith(".safetensors")))
        store.wipe_disks()
        run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=hooks), check=False)
        assert "/opt/m lacks *.safetensors on this node" in str(run.error)


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "config.json").unlink(), "lacks config.json on this node"),
        (lambda folder: (folder / "model.safetensors").unlink(), "lacks \\*.safetensors on this node"),
        (
            lambda folder: (folder / "model.safetensors.index.json").write_text(
                json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}})
            ),
            "lacks model-2.safetensors on this node",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n"),
            "model.safetensors is not there, only its pointer of Git LFS",
        ),
    ],
)
def test_a_node_says_what_it_lacks(folder: Path, spoil: Any, told: str) -> None:
    from serve_llm_hooks.recipes import BakedModel

    spoil(folder)
    with pytest.raises(FileNotFoundError, match=told):
        BakedModel(str(folder)).on_before_node_download(node_ctx())
