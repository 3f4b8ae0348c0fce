"""``CompileCache`` on a fake cluster, whose engine writes what a hook writes for it."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookSignatureError, hook
from serve_llm_hooks.recipes import compile_cache
from serve_llm_hooks.recipes._stores.archive import unpack
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakeStore, check_hooks, explore_hooks

if TYPE_CHECKING:
    from pathlib import Path

    from serve_llm_hooks_testing import FakeRun

URI = "s3://models/compile-cache"
DEST = "/cache"
ENTRY = {"hook": "serve_llm_hooks.recipes:CompileCache", "kwargs": {"uri": URI, "dest": DEST}}
COMPILED = {"vllm/torch_compile_cache/a/rank_0_0/graph.so": b"code" * 1000, "inductor/b.py": b"more"}
LEFT_OUT = {"vllm/gpu_p2p_access_cache_for_0.json": b"1", "inductor/b.lock": b"", "triton/c.tmp": b"half"}


def start(store: FakeStore, *, nodes: int = 2, compiled: dict[str, bytes] = COMPILED, **config: Any) -> FakeRun:
    """Start an engine that compiles what its nodes have not got."""

    @hook("on_after_engine_init")
    def engine(ctx: Any) -> None:
        for node_id in ctx.nodes:
            for name, content in (compiled | LEFT_OUT).items():
                file = store.disk(node_id, f"{DEST}/{name}")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)

    return FakeCluster(nodes=nodes).run(FakeLLMConfig("m", hooks=[ENTRY, engine], **config), check=False)


def restored(store: FakeStore, node_id: str = "node-0", **config: Any) -> dict[str, bytes]:
    """Return the files that a start on empty disks has restored before its engine."""
    found: dict[str, bytes] = {}

    @hook("on_before_engine_init")
    def look(ctx: Any) -> None:
        top = store.disk(node_id, DEST)
        found.update({file.relative_to(top).as_posix(): file.read_bytes() for file in files(top)})

    store.wipe_disks()
    run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[ENTRY, look], **config))
    assert run.error is None
    return found


def files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_what_one_start_compiles_the_next_one_finds_on_every_node() -> None:
    with FakeStore() as store:
        assert start(store).error is None
        assert len(store.places()) == 1  # two nodes that compiled the same
        for node_id in ("node-0", "node-1"):
            assert restored(store, node_id) == COMPILED
        start(store)
        assert len(store.places()) == 1
        start(store, compiled=COMPILED | {"inductor/new.py": b"new"})
        assert restored(store) == COMPILED | {"inductor/new.py": b"new"}


@pytest.mark.parametrize("config", [{"engine_kwargs": {"max_model_len": 100}}, {"model_source": "s3://models/another"}])
def test_what_was_compiled_for_something_else_is_not_restored(config: dict[str, Any]) -> None:
    with FakeStore() as store:
        start(store)
        assert restored(store, **config) == {}


def test_another_version_finds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeStore() as store:
        start(store)
        monkeypatch.setattr(compile_cache, "folder_for", lambda what: "another")
        assert restored(store) == {}


def spoilt(content: bytes) -> list[bytes]:
    return [content[:-2000], b"", b"x" + content[1:]]


@pytest.mark.parametrize("way", range(3))
def test_a_spoilt_archive_costs_a_compile_and_never_a_start(way: int, caplog: pytest.LogCaptureFixture) -> None:
    with FakeStore() as store:
        start(store)
        [place] = store.places()
        store.put(place, spoilt(store.read(place))[way])
        assert restored(store) == {}
        assert "is left out" in caplog.text
        assert start(store).error is None


@pytest.mark.parametrize(
    "member", [tarfile.TarInfo("../../outside"), tarfile.TarInfo("/outside"), tarfile.TarInfo("a/link")]
)
def test_an_archive_that_would_write_elsewhere_is_refused(member: tarfile.TarInfo, tmp_path: Path) -> None:
    if member.name == "a/link":
        member.type, member.linkname = tarfile.SYMTYPE, "/etc"
    with tarfile.open(tmp_path / "a.tar", "w") as opened:
        opened.addfile(member)
    with pytest.raises(tarfile.TarError, match="which is no file below it"):
        unpack(tmp_path / "a.tar", tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


def test_a_store_that_is_not_there_ends_no_start(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    entry = {"hook": ENTRY["hook"], "kwargs": {"uri": f"{tmp_path}/file/below", "dest": str(tmp_path / "cache")}}

    @hook("on_after_engine_init")
    def engine(ctx: Any) -> None:
        (tmp_path / "cache" / "a").write_text("compiled")

    assert FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[entry, engine])).error is None
    assert "the compile cache is not saved" in caplog.text


def test_the_store_does_not_grow_for_ever() -> None:
    with FakeStore() as store:
        for number in range(compile_cache.AT_MOST + 3):
            start(store, nodes=1, compiled={f"inductor/{number}": b""})
        assert len(store.places()) == compile_cache.AT_MOST


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"uri": "s3://"}, "uri='s3://' names no bucket"),
        ({"uri": "https://host/cache"}, "there is no scheme 'https://' here"),
        ({"uri": "s3://models/*"}, "uri='s3://models/*' is a glob"),
        ({"uri": URI, "dest": "cache"}, "dest='cache' is a relative path"),
    ],
)
def test_a_wrong_argument_is_told_where_the_config_is_made(kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(HookSignatureError) as error:
        FakeLLMConfig("m", hooks=[ENTRY | {"kwargs": kwargs}])
    assert told in str(error.value)


def test_it_survives_what_hooks_must() -> None:
    with FakeStore():
        check_hooks(ENTRY)
        explore_hooks(ENTRY, seeds=4)
