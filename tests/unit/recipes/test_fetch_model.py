"""``FetchModel``: what it brings, in which order, and what the engine is told."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import DownloadError, HookSignatureError
from serve_llm_hooks.recipes import Fetch, FetchModel
from serve_llm_hooks.recipes._stores.store import ASIDE
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakeStore, check_hooks, explore_hooks, node_ctx
from tests.conftest import require

if TYPE_CHECKING:
    from pathlib import Path

    from serve_llm_hooks_testing import FakeRun
    from tests.file_server import FileServer

NAME = "serve_llm_hooks.recipes:FetchModel"
MODEL = {
    "config.json": b"{}",
    "model-1.safetensors": b"1" * 1000,
    "model-2.safetensors": b"2" * 1000,
    "original/consolidated.safetensors": b"3" * 1000,
    "pytorch_model.bin": b"4" * 1000,
    "tokenizer.json": b"[]",
}
COME = ["config.json", "model-1.safetensors", "model-2.safetensors", "tokenizer.json"]


def fetch(src: str, dest: Path | None, **kwargs: Any) -> str | None:
    ctx = node_ctx(node_id="node-1")
    FetchModel(src, None if dest is None else str(dest), **kwargs).on_before_node_download(ctx)
    return ctx.model_path


def names(folder: Path) -> list[str]:
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.is_file()]
    return sorted(file.as_posix() for file in files if not file.parts[0].startswith("."))


@pytest.fixture
def bucket(s3: FileServer) -> FileServer:
    """A server that has a model."""
    s3.files = {f"/models/llama/{name}": content for name, content in MODEL.items()}
    return s3


def test_the_engine_loads_it_and_ray_downloads_nothing() -> None:
    entry = {"hook": NAME, "kwargs": {"src": "s3://models/llama"}}
    with FakeStore({f"s3://models/llama/{name}": content for name, content in MODEL.items()}) as store:
        run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[entry]))
        assert run.engine is not None
        assert run.engine.model_path is not None
        assert run.engine.model_path.endswith("/.cache/serve-llm-hooks/models/s3/models/llama")
        for node_id, node in run.nodes.items():
            assert node.downloaded == []
            assert names(store.disk(node_id, run.engine.model_path)) == COME
        check_hooks(entry)
        explore_hooks(entry, seeds=4)


def test_config_and_tokenizer_come_first(bucket: FileServer, tmp_path: Path) -> None:
    assert fetch("s3://models/llama", tmp_path) == str(tmp_path)
    order = [request.path.rpartition("/")[2] for request in bucket.asked]
    assert set(order[:2]) == {"config.json", "tokenizer.json"}
    assert names(tmp_path) == COME


def test_without_the_config_no_weights_are_read(bucket: FileServer, tmp_path: Path) -> None:
    bucket.fault = lambda request: 403 if request.path.endswith("config.json") else None
    with pytest.raises(DownloadError, match=r"config\.json may not be read: 403 Forbidden"):
        fetch("s3://models/llama", tmp_path)
    assert not [request for request in bucket.asked if request.path.endswith(".safetensors")]


INDEX = "model.safetensors.index.json"


def test_what_has_left_the_source_leaves_the_folder(bucket: FileServer, tmp_path: Path) -> None:
    bucket.files[f"/models/llama/{INDEX}"] = b"{}"
    fetch("s3://models/llama", tmp_path)
    assert names(tmp_path) == sorted([*COME, INDEX])
    (tmp_path / "mine.safetensors").write_bytes(b"stays")

    for name in (INDEX, "model-1.safetensors", "model-2.safetensors"):
        del bucket.files[f"/models/llama/{name}"]
    bucket.files["/models/llama/model.safetensors"] = b"all of them"
    bucket.fault = lambda request: 403 if request.path.endswith("/model.safetensors") else None
    with pytest.raises(DownloadError):
        fetch("s3://models/llama", tmp_path)
    assert "model-1.safetensors" in names(tmp_path)  # nothing goes before all has come

    bucket.fault = lambda request: None
    fetch("s3://models/llama", tmp_path)
    assert names(tmp_path) == ["config.json", "mine.safetensors", "model.safetensors", "tokenizer.json"]


def test_what_another_model_brought_to_the_folder_leaves_it(bucket: FileServer, tmp_path: Path) -> None:
    fetch("s3://models/llama", tmp_path)
    bucket.files = {"/models/v2/config.json": b"{2}", "/models/v2/model.safetensors": b"2"}
    fetch("s3://models/v2", tmp_path)
    assert names(tmp_path) == ["config.json", "model.safetensors"]


def test_what_the_source_still_has_stays_for_others(bucket: FileServer, tmp_path: Path) -> None:
    fetch("s3://models/llama", tmp_path, files=["*.json", "*.bin"])
    fetch("s3://models/llama", tmp_path, files=["*.json", "model-1.safetensors"])
    assert names(tmp_path) == ["config.json", "model-1.safetensors", "pytorch_model.bin", "tokenizer.json"]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("src", "dest", "name"),
    [
        ("s3://models/t/chat.jinja", "models/llama", "chat.jinja"),
        ("s3://models/t", "models/llama/templates", "templates/chat.jinja"),
        ("s3://models/t", "models", "chat.jinja"),
    ],
)
def test_what_a_fetch_brings_by_now_stays(
    bucket: FileServer, tmp_path: Path, src: str, dest: str, name: str, is_first: bool
) -> None:
    folder = tmp_path / "models/llama"
    bucket.files[f"/models/llama/{name}"] = b"as it was"
    fetch("s3://models/llama", folder)
    del bucket.files[f"/models/llama/{name}"]
    bucket.files["/models/t/" + ("llama/chat.jinja" if dest == "models" else "chat.jinja")] = b"as it is"
    hooks = [Fetch(src, str(tmp_path / dest)), FetchModel("s3://models/llama", str(folder))]
    for hook in hooks if is_first else reversed(hooks):
        hook.on_before_node_download(node_ctx())
    assert (folder / name).read_bytes() == b"as it is"
    fetch("s3://models/llama", folder)
    assert (folder / name).exists()


@pytest.mark.parametrize("note", ["", "{", "3", '["../mine.txt", "/mine.txt", 3]'])
def test_a_broken_list_of_what_was_brought_removes_nothing(bucket: FileServer, tmp_path: Path, note: str) -> None:
    dest = tmp_path / "dest"
    (dest / ASIDE).mkdir(parents=True)
    (dest / ASIDE / "brought.json").write_text(note)
    (tmp_path / "mine.txt").write_text("stays")
    fetch("s3://models/llama", dest)
    assert names(dest) == COME
    assert (tmp_path / "mine.txt").exists()


def test_files_that_are_named_come_all(bucket: FileServer, tmp_path: Path) -> None:
    fetch("s3://models/llama", tmp_path, files=["*.json", "*.bin"])
    assert names(tmp_path) == ["config.json", "pytorch_model.bin", "tokenizer.json"]


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        (["config.json"], "s3://models/llama is no model: there is no config.json among its 5 files"),
        ([name for name in MODEL if not name.endswith(".json")], "there are no weights among its 2 files"),
    ],
)
def test_what_is_no_model(bucket: FileServer, tmp_path: Path, gone: list[str], told: str) -> None:
    for name in gone:
        del bucket.files[f"/models/llama/{name}"]
    with pytest.raises(DownloadError, match=told):
        fetch("s3://models/llama", tmp_path)


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"src": "hf://llama"}, "src='hf://llama' names no model: write 'hf://organization/model'"),
        ({"src": "https://host/model"}, "there is no scheme 'https://' here"),
        ({"src": "s3://models/*"}, "is a glob; a model is a folder"),
        ({"src": "s3://models/llama", "dest": "models"}, "dest='models' is a relative path"),
        ({"src": "s3://models/llama", "files": [3]}, "files is a list of names and globs"),
    ],
)
def test_a_wrong_argument_is_told_where_the_config_is_made(kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(HookSignatureError) as error:
        FakeLLMConfig("m", hooks=[{"hook": NAME, "kwargs": kwargs}])
    assert told in str(error.value)


COMMIT = "0123456789" * 4


@pytest.fixture
def mirror(s3: FileServer, monkeypatch: pytest.MonkeyPatch) -> FileServer:
    """A mirror of the Hugging Face hub that has a model."""
    require("huggingface_hub", "huggingface_hub, which vLLM brings,")
    monkeypatch.setenv("HF_ENDPOINT", s3.url)
    monkeypatch.setenv("HF_TOKEN", "a-secret")
    info = {"id": "meta/llama", "sha": COMMIT}
    siblings = [{"rfilename": name, "size": len(content)} for name, content in MODEL.items()]
    tree = [{"type": "file", "path": name, "size": len(body), "oid": name} for name, body in MODEL.items()]
    for place in ("", "/revision/main", "/revision/v1"):
        s3.files[f"/api/models/meta/llama{place}"] = json.dumps(info | {"siblings": siblings}).encode()
    s3.files[f"/api/models/meta/llama/tree/{COMMIT}"] = json.dumps(tree).encode()
    s3.files |= {f"/meta/llama/resolve/{COMMIT}/{name}": body for name, body in MODEL.items()}
    s3.headers = {"X-Repo-Commit": COMMIT}
    return s3


def test_what_has_left_the_hub_leaves_the_folder(mirror: FileServer, tmp_path: Path) -> None:
    fetch("hf://meta/llama", tmp_path)
    for place in ("", "/revision/main"):
        info = json.loads(mirror.files[f"/api/models/meta/llama{place}"])
        info["siblings"] = [each for each in info["siblings"] if each["rfilename"] != "model-2.safetensors"]
        mirror.files[f"/api/models/meta/llama{place}"] = json.dumps(info).encode()
    fetch("hf://meta/llama", tmp_path)
    assert names(tmp_path) == [name for name in COME if name != "model-2.safetensors"]


@pytest.mark.parametrize("src", ["hf://meta/llama", "hf://meta/llama@v1"])
def test_a_mirror_of_the_hub(mirror: FileServer, tmp_path: Path, src: str) -> None:
    assert fetch(src, tmp_path) == str(tmp_path)
    assert names(tmp_path) == COME
    order = [each.path.rpartition("/")[2] for each in mirror.asked if "/resolve/" in each.path and each.method == "GET"]
    assert set(order[:2]) == {"config.json", "tokenizer.json"}
    mirror.asked.clear()
    fetch(src, tmp_path)
    assert not [each for each in mirror.asked if each.method == "GET" and each.path.endswith(".safetensors")]


def test_a_model_of_the_hub_that_may_not_be_read(
    mirror: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror.fault = lambda request: 401
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(DownloadError, match=r"hf://meta/llama is not there, or may not be read: 401\. HF_TOKEN is not"):
        fetch("hf://meta/llama", tmp_path)


def test_a_hub_that_is_gone_is_no_success_although_something_is_there(mirror: FileServer, tmp_path: Path) -> None:
    fetch("hf://meta/llama", tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    mirror.fault = lambda request: 503
    with pytest.raises(DownloadError, match="hf://meta/llama"):
        fetch("hf://meta/llama", tmp_path)


def test_a_replica_that_waits_for_another_to_fetch_takes_no_virtual_time() -> None:
    config = FakeLLMConfig("m", hooks=[FetchModel("s3://bucket/m", "/models/m")])

    async def both() -> list[FakeRun]:
        cluster = FakeCluster(nodes=1)
        return list(await asyncio.gather(cluster.arun(config), cluster.arun(config)))

    with FakeStore({"s3://bucket/m/config.json": "{}", "s3://bucket/m/model.safetensors": bytes(20_000_000)}):
        alone = FakeCluster(nodes=1).run(config).elapsed_s
    with FakeStore({"s3://bucket/m/config.json": "{}", "s3://bucket/m/model.safetensors": bytes(20_000_000)}):
        found = asyncio.run(both())
    assert [run.elapsed_s for run in found] == [alone, alone]
