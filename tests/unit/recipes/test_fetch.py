"""``Fetch`` against a real server on loopback: what it brings, and what it says where it cannot."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from serve_llm_hooks import DownloadError, HookSignatureError
from serve_llm_hooks.recipes import Fetch
from serve_llm_hooks.recipes._stores.store import ASIDE
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakeStore, check_hooks, explore_hooks, node_ctx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.file_server import FileServer, Request

NAME = "serve_llm_hooks.recipes:Fetch"
LARGE = random.Random(1).randbytes(900 * 1024)  # three parts and a piece
SMALL = b'{"a": 1}'


def fetch(src: str, dest: Path, **kwargs: Any) -> None:
    Fetch(src, str(dest), **kwargs).on_before_node_download(node_ctx(node_id="node-1"))


def names(folder: Path) -> list[str]:
    """The files that a reader sees."""
    files = [file for file in folder.rglob("*") if file.is_file() and ASIDE not in file.parts]
    return sorted(file.relative_to(folder).as_posix() for file in files)


@pytest.fixture
def model(s3: FileServer) -> FileServer:
    """A server that has a folder."""
    s3.files = {
        "/models/llama/config.json": SMALL,
        "/models/llama/model.safetensors": LARGE,
        "/models/llama/sub/more.json": b"",
        "/models/llama-2/config.json": b"another model",
    }
    return s3


def test_a_folder_with_its_folders(model: FileServer, tmp_path: Path) -> None:
    fetch("s3://models/llama", tmp_path)
    assert names(tmp_path) == ["config.json", "model.safetensors", "sub/more.json"]
    assert (tmp_path / "model.safetensors").read_bytes() == LARGE
    assert (tmp_path / "sub" / "more.json").read_bytes() == b""
    assert len([each for each in model.asked if each.path.endswith(".safetensors")]) == 4  # in parallel parts


@pytest.mark.parametrize(
    ("src", "files", "come"),
    [
        ("s3://models/llama/config.json", (), ["config.json"]),
        ("s3://models/llama/*.json", (), ["config.json", "sub/more.json"]),
        ("s3://models/llama/", ("*.safetensors", "sub/more.json"), ["model.safetensors", "sub/more.json"]),
        ("s3://models", ("llama/config.json",), ["llama/config.json"]),
    ],
)
def test_a_file_a_glob_and_names(
    model: FileServer, tmp_path: Path, src: str, files: tuple[str, ...], come: list[str]
) -> None:
    fetch(src, tmp_path, files=files)
    assert names(tmp_path) == come


@pytest.mark.parametrize(("slash", "told"), [("", True), ("/", False)])
def test_a_folder_with_the_name_of_a_file_is_told(
    model: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, slash: str, told: bool
) -> None:
    model.files["/models/llama.cpp/readme.md"] = b"a folder"
    fetch(f"s3://models/llama.cpp{slash}", tmp_path)
    assert names(tmp_path) == ["readme.md"]
    assert ("s3://models/llama.cpp is a folder with the name of a file: write it with a '/' at" in caplog.text) == told
    caplog.clear()
    fetch("s3://models/llama/config.json", tmp_path)
    assert "is a folder" not in caplog.text


def test_what_is_there_is_not_read_again_and_what_has_changed_is(model: FileServer, tmp_path: Path) -> None:
    fetch("s3://models/llama", tmp_path)
    (tmp_path / "mine.txt").write_text("stays")
    (tmp_path / "config.json").write_text("was edited here")
    model.asked.clear()
    model.files["/models/llama/model.safetensors"] = LARGE + b"!"
    fetch("s3://models/llama", tmp_path)
    assert {request.path for request in model.asked} == {
        "/models/llama/config.json",
        "/models/llama/model.safetensors",
    }
    assert (tmp_path / "model.safetensors").read_bytes() == LARGE + b"!"
    assert (tmp_path / "config.json").read_bytes() == SMALL
    assert "mine.txt" in names(tmp_path)


def test_from_an_http_server(model: FileServer, tmp_path: Path) -> None:
    fetch(f"{model.url}/models/llama/model.safetensors", tmp_path / "one")
    fetch(f"{model.url}/models/llama", tmp_path / "some", files=["config.json", "sub/more.json"])
    assert (tmp_path / "one" / "model.safetensors").read_bytes() == LARGE
    assert names(tmp_path / "some") == ["config.json", "sub/more.json"]


def test_a_name_that_is_given_twice(model: FileServer, tmp_path: Path) -> None:
    fetch(f"{model.url}/models/llama", tmp_path, files=["config.json", "sub/more.json", "config.json"])
    assert names(tmp_path) == ["config.json", "sub/more.json"]


def test_from_a_folder(tmp_path: Path) -> None:
    (tmp_path / "src" / "sub").mkdir(parents=True)
    (tmp_path / "src" / "sub" / "a").write_bytes(LARGE)
    (tmp_path / "blob").write_text("behind a link, as in a cache of Hugging Face's")
    (tmp_path / "src" / "b").symlink_to(tmp_path / "blob")
    fetch(str(tmp_path / "src"), tmp_path / "dest")
    fetch((tmp_path / "src" / "sub" / "a").as_uri(), tmp_path / "dest2")
    assert names(tmp_path / "dest") == ["b", "sub/a"]
    assert not (tmp_path / "dest" / "b").is_symlink()
    assert (tmp_path / "dest2" / "a").read_bytes() == LARGE


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("scheme", ["s3", "http"])
def test_a_connection_that_is_cut_is_gone_on_with(
    model: FileServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, scheme: str, ranges: bool
) -> None:
    model.ranges = ranges or scheme == "s3"
    cuts = iter(["cut"])
    model.fault = lambda request: next(cuts, None) if request.method == "GET" else None
    with caplog.at_level(logging.INFO, "serve_llm_hooks"):
        fetch("s3://models/llama" if scheme == "s3" else f"{model.url}/models/llama/model.safetensors", tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == LARGE
    assert "it is tried again" in caplog.text
    assert f"are in {tmp_path}" in caplog.text


def test_a_connection_that_is_cut_again_and_again_ends_the_start(model: FileServer, tmp_path: Path) -> None:
    model.fault = lambda request: "cut" if request.path.endswith(".safetensors") else None
    model.files["/models/llama/model.safetensors"] = b"12"  # of which each try brings less
    with pytest.raises(DownloadError, match=r"^s3://models/llama/model\.safetensors: .*body error"):
        fetch("s3://models/llama", tmp_path)
    assert "model.safetensors" not in names(tmp_path)


def test_a_server_without_parts_that_cuts_each_answer_at_one_place_ends_the_start(
    model: FileServer, tmp_path: Path
) -> None:
    model.ranges = False
    left = iter(["cut"] * 60)  # a fetch that never ends would succeed with the next answer
    model.fault = lambda request: next(left, None) if request.method == "GET" else None
    with pytest.raises(DownloadError, match=r"model\.safetensors"):
        fetch(f"{model.url}/models/llama/model.safetensors", tmp_path)
    assert names(tmp_path) == []


def test_a_server_that_is_overloaded_for_a_moment(model: FileServer, tmp_path: Path) -> None:
    answers = iter([503, 500, 503])
    model.fault = lambda request: next(answers, None)
    fetch("s3://models/llama", tmp_path)
    assert len(names(tmp_path)) == 3


@pytest.mark.parametrize("etags", [True, False])
@pytest.mark.parametrize("cut", [True, False])
def test_a_file_that_changes_under_way_is_never_half_old(
    model: FileServer, tmp_path: Path, etags: bool, cut: bool
) -> None:
    model.etags = etags or True
    path = "/models/llama/model.safetensors"

    def change(request: Request) -> str | None:
        if request.path != path or request.start == 0:
            return "cut" if cut and request.path == path else None
        model.files[path] = LARGE[::-1]
        return None

    model.fault = change
    with pytest.raises(DownloadError, match=r"s3://models/llama/model\.safetensors was changed while it was read"):
        fetch("s3://models/llama", tmp_path)
    assert "model.safetensors" not in names(tmp_path)
    model.fault = lambda request: None
    fetch("s3://models/llama", tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == LARGE[::-1]
    assert [file.name for file in (tmp_path / ASIDE).iterdir()] == ["lock"]


def test_what_may_not_be_read(model: FileServer, tmp_path: Path) -> None:
    model.fault = lambda request: 403 if request.path.endswith(".safetensors") else None
    with pytest.raises(DownloadError) as told:
        fetch("s3://models/llama", tmp_path)
    assert str(told.value) == "s3://models/llama/model.safetensors may not be read: 403 Forbidden (AccessDenied)"
    assert told.value.node_id == "node-1"


def test_a_listed_file_that_is_missing(model: FileServer, tmp_path: Path) -> None:
    model.listed = ["llama/gone.json"]
    with pytest.raises(DownloadError, match=r"^s3://models/llama/gone\.json is not there$"):
        fetch("s3://models/llama", tmp_path)


@pytest.mark.parametrize(
    ("src", "kwargs", "told"),
    [
        ("s3://models/nothing", {}, "s3://models/nothing is not there"),
        ("s3://models/nothing/", {}, "s3://models/nothing/: there are no files"),
        ("s3://models/llama", {"files": ["gone"]}, "s3://models/llama: there is no 'gone' among the 3 files there"),
        ("s3://models/llama/*.gguf", {}, "s3://models/llama/*.gguf: there is no '*.gguf' among the 3 files there"),
        (
            "s3://models/llama",
            {"files": ["config.json"], "sha256": {"x": "0" * 64}},
            "s3://models/llama: sha256 names 'x', which is not among the files to fetch",
        ),
        ("/no/such/folder", {}, "/no/such/folder is not there"),
    ],
)
def test_what_is_not_there(model: FileServer, tmp_path: Path, src: str, kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(DownloadError) as error:
        fetch(src, tmp_path, **kwargs)
    assert str(error.value) == told


@pytest.mark.parametrize("recipe", ["Fetch", "FetchModel"])
def test_a_folder_that_cannot_be_written_says_what_to_do(recipe: str, model: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    kwargs = {"src": "s3://models/llama", "dest": f"{tmp_path}/file/below"}
    entry = {"hook": f"serve_llm_hooks.recipes:{recipe}", "kwargs": kwargs}
    run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[entry]), check=False)
    told = rf"s3://models/llama: nothing can be brought to {kwargs['dest']} \(Not a directory: .*\): give a dest= where"
    assert re.search(told, str(run.error))


def test_a_checksum(model: FileServer, tmp_path: Path) -> None:
    right = hashlib.sha256(LARGE).hexdigest()
    with pytest.raises(DownloadError, match=f"model.safetensors has the sha256 {right}, and not {'0' * 64}"):
        fetch("s3://models/llama", tmp_path, sha256={"model.safetensors": "0" * 64})
    assert "model.safetensors" not in names(tmp_path)
    fetch("s3://models/llama", tmp_path, sha256={"model.safetensors": right.upper()})
    assert "model.safetensors" in names(tmp_path)


def test_a_checksum_of_a_file_that_is_there(model: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = hashlib.sha256(LARGE).hexdigest()
    fetch("s3://models/llama", tmp_path)
    with pytest.raises(DownloadError, match=f"model.safetensors has the sha256 {right}, and not {'0' * 64}"):
        fetch("s3://models/llama", tmp_path, sha256={"model.safetensors": "0" * 64})

    model.asked.clear()
    fetch("s3://models/llama", tmp_path, sha256={"model.safetensors": right})
    assert model.asked == []
    digests = Mock(side_effect=hashlib.file_digest)
    monkeypatch.setattr(hashlib, "file_digest", digests)
    fetch("s3://models/llama", tmp_path, sha256={"model.safetensors": right})
    assert digests.call_count == 0  # it is read for that once

    file = tmp_path / "model.safetensors"
    stat = file.stat()
    file.write_bytes(LARGE[::-1])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # as large and as old as the right one
    fetch("s3://models/llama", tmp_path, sha256={"model.safetensors": right})
    assert file.read_bytes() == LARGE
    assert digests.call_count == 2


def test_a_note_that_is_broken_is_none(model: FileServer, tmp_path: Path) -> None:
    right = hashlib.sha256(LARGE).hexdigest()
    for note in ("", "[", "[1]", '{"model.safetensors": 3}'):
        (tmp_path / ASIDE).mkdir(exist_ok=True)
        (tmp_path / ASIDE / "sha256.json").write_text(note)
        fetch("s3://models/llama", tmp_path, sha256={"model.safetensors": right})
    assert (tmp_path / "model.safetensors").read_bytes() == LARGE


def test_a_disk_with_too_little_room_is_told_before_anything_is_read(
    model: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))  # no disk of a test is full
    with pytest.raises(DownloadError, match=r"900\.0 KiB are still to come, and the disk of .* has 97\.7 KiB free"):
        fetch("s3://models/llama", tmp_path)
    assert model.asked == []


def test_a_write_that_fails_leaves_no_room_taken(model: FileServer, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300 * 1024, hard))  # the kernel refuses to write more
    try:
        with pytest.raises(DownloadError, match=r"model\.safetensors cannot be written: File too large") as told:
            fetch("s3://models/llama", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(told.value.__cause__, Exception)
    assert isinstance(told.value.__cause__.__cause__, OSError)
    assert told.value.__cause__.__cause__.errno == errno.EFBIG
    assert "model.safetensors" not in names(tmp_path)
    assert sum(file.stat().st_size for file in (tmp_path / ASIDE).iterdir()) < 100


def test_a_file_gets_its_name_once_it_is_on_the_disk(
    model: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: dict[int, int] = {}

    def sync(descriptor: int) -> None:
        stat = os.fstat(descriptor)
        synced[stat.st_ino] = stat.st_size

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DownloadError, match=r"cannot be written: Input/output error"):
        fetch("s3://models/llama", tmp_path)
    assert names(tmp_path) == []

    monkeypatch.setattr(os, "fsync", sync)
    fetch("s3://models/llama", tmp_path)
    for name in names(tmp_path):
        stat = (tmp_path / name).stat()
        assert synced[stat.st_ino] == stat.st_size


KILLED = """
import json, os, signal, sys
from serve_llm_hooks.recipes import Fetch
from serve_llm_hooks.recipes._stores import transfer
from serve_llm_hooks_testing import node_ctx
transfer.PART, transfer.SMALL = 256 << 10, 64 << 10
Fetch("s3://models/llama", sys.argv[1], parallel=1).on_before_node_download(node_ctx())
"""


def test_a_process_that_is_killed_half_way_and_comes_again(model: FileServer, tmp_path: Path) -> None:
    half_way, killed = threading.Event(), threading.Event()
    path = "/models/llama/model.safetensors"

    def hold(request: Request) -> None:
        if request.path == path and request.start == 512 * 1024:
            half_way.set()
            killed.wait(30)

    model.fault = hold
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], env=os.environ)
    try:
        assert half_way.wait(30)
    finally:
        process.kill()
        process.wait()
        killed.set()
    assert "model.safetensors" not in names(tmp_path)
    model.asked.clear()
    model.fault = lambda request: None
    fetch("s3://models/llama", tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == LARGE
    assert sorted(request.start for request in model.asked if request.path == path) == [512 * 1024, 768 * 1024]


def test_two_on_one_node_do_the_work_once(model: FileServer, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: fetch("s3://models/llama", tmp_path), range(4)))
    assert (tmp_path / "model.safetensors").read_bytes() == LARGE
    assert len([request for request in model.asked if request.path.endswith("config.json")]) == 1


def test_credentials_that_are_missing_are_named(
    model: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(DownloadError, match="AWS_ACCESS_KEY_ID is set in this process's environment, and AWS_SECRET"):
        fetch("s3://models/llama", tmp_path)
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(DownloadError, match="AZURE_STORAGE_ACCOUNT_NAME is not set"):
        fetch("az://models/llama", tmp_path)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
    with pytest.raises(DownloadError, match="GOOGLE_APPLICATION_CREDENTIALS names a file that is not there"):
        fetch("gs://models/llama", tmp_path)


def test_no_credentials_at_all_are_named_where_the_store_asks_for_them(
    model: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SKIP_SIGNATURE", "true")
    model.fault = lambda request: 403
    with pytest.raises(DownloadError, match="No credentials are in this process's environment: set AWS_ACCESS_KEY_ID"):
        fetch("s3://models/llama", tmp_path)


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"src": "s3:///llama"}, "src='s3:///llama' names no bucket: write 's3://bucket/folder'"),
        ({"src": "ftp://host/f"}, "there is no scheme 'ftp://' here: write s3://bucket/folder"),
        ({"src": "hf://org/model"}, "there is no scheme 'hf://' here"),
        ({"src": "models/llama"}, "src='models/llama' is neither an absolute path nor a place in a store"),
        ({"src": "file://models/llama"}, "is a relative path: write 'file:///folder', with three slashes"),
        ({"src": "https://me:pw@host/f"}, "src has a user or a password in it"),
        ({"src": "https://host/f?sig=abc"}, "src has a query"),
        ({"src": "https://$HOST:$PORT/f"}, "has '$HOST' in it"),
        ({"src": "https://host:port/f"}, "'host:port' is no host: its port is a number"),
        ({"src": "https://host:65536/f"}, "'host:65536' is no host: its port is a number"),
        ({"src": 3}, "src is a text"),
        (
            {"src": "s3://models/{model_id}"},
            "src='s3://models/{model_id}' has '{model_id}' in it, which nothing",
        ),
        ({"src": "s3://$BUCKET/llama"}, "has '$BUCKET' in it, which nothing replaces: write it out"),
        ({"src": "$MODEL"}, "has '$MODEL' in it"),
        ({"src": "/models/${MODEL}"}, "has '${MODEL}' in it"),
        ({"src": "S3://models/llama"}, "there is no scheme 'S3://' here: write s3://"),
        ({"src": " s3://models/llama"}, "there is no scheme ' s3://' here"),
        ({"src": "s3a://models/llama"}, "there is no scheme 's3a://' here"),
        ({"src": "s3:/models/llama"}, "is neither an absolute path nor a place in a store"),
        ({"src": "s3://my models/llama"}, "'my models' is no name of a bucket"),
        ({"src": "s3://models/a//llama"}, "src='s3://models/a//llama' has '//', '/./' or '/../' in its path"),
        ({"src": "https://host/a/../f"}, "has '//', '/./' or '/../' in its path, by which no store finds anything"),
        ({"src": "s3://localhost:9000/models"}, "'localhost:9000' is no name of a bucket"),
        ({"dest": "/models/{model_id}"}, "dest='/models/{model_id}' has '{model_id}' in it"),
        ({"dest": "models"}, "dest='models' is a relative path"),
        ({"dest": "//"}, "dest='/' is no folder for files"),
        ({"dest": "s3://b/f"}, "dest='s3://b/f' is a place in a store"),
        ({"dest": None}, "dest is the path of a folder"),
        ({"src": "https://host/f", "files": ["*.json"]}, "an HTTP server lists no files"),
        ({"src": "s3://b/*.json", "files": ["a"]}, "has a glob, and files= says which files too"),
        ({"files": ["../../etc/passwd"]}, "files: '../../etc/passwd' is not below src"),
        ({"files": ["./a.json"]}, "files: './a.json' has './' or '//' in it, or a '/' at its end"),
        ({"files": ["sub/"]}, "a folder is 'folder/*'"),
        ({"files": None}, "files is a list of names and globs, as in ['*.json'], and not empty: leave it out"),
        ({"files": {"a": 1}}, "files is a list of names and globs, as in ['*.json'], and not a value of dict"),
        ({"src": "https://host/"}, "src='https://host/' names no file, and an HTTP server lists none: say in files="),
        ({"parallel": True}, "parallel is a number of reads"),
        ({"sha256": "0" * 64}, "sha256 is a mapping from names to checksums"),
        ({"sha256": {"a": 3}}, "sha256 of 'a' is not one: it has 64 hexadecimal digits"),
        ({"sha256": {"a": "abc"}}, "sha256 of 'a' is not one: it has 64 hexadecimal digits"),
        ({"parallel": 0}, "parallel is a number of reads, from 1 to 256"),
    ],
)
def test_a_wrong_argument_is_told_where_the_config_is_made(kwargs: dict[str, Any], told: str) -> None:
    given = {"src": "s3://models/llama", "dest": "/models"} | kwargs
    with pytest.raises(HookSignatureError) as error:
        FakeLLMConfig("m", hooks=[{"hook": NAME, "kwargs": given}])
    assert told in str(error.value)


USER = "has a user or a password in it; secrets are taken from the environment only"
QUERY = "a signed URL is a secret, and has no place in a config"


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"src": "s3://AKIA:wJa/SECRET/K7@bucket/x"}, USER),
        ({"src": "s3://AKIA:123/SECRET@bucket/x"}, USER),
        ({"src": "https://u:hun/SECRET@host/x"}, USER),
        ({"src": "https://u:SECRET#1@host/x"}, USER),
        ({"src": "https://u:pa$SECRET@host/x"}, USER),
        ({"src": "https://u:{SECRET}@host/x"}, USER),
        ({"src": "https://SECRET@[host/x"}, USER),
        ({"src": "https:/u:SECRET@host/x"}, USER),
        ({"src": "u:SECRET@host/x"}, USER),
        ({"src": "abfss://c:SEC/SECRET@account.dfs.core.windows.net/x"}, USER),
        ({"dest": "s3://AKIA:SECRET@bucket/x"}, USER),
        ({"src": "https://host/x?sig=a$SECRET"}, QUERY),
        ({"src": "host/x?sig=SECRET"}, QUERY),
        ({"src": "az://c/f?sv=1&sig=SECRET"}, QUERY),
        ({"src": "https://host", "files": ["f?sig=SECRET"]}, QUERY),
        ({"files": ["https://u:SECRET@host/x"]}, "files has a place in it"),
    ],
)
def test_no_secret_is_taken_or_shown(kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=re.escape(told)) as error:
        Fetch(**{"src": "s3://models/llama", "dest": "/models"} | kwargs)
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    "src",
    [
        "https://host:8080/a@b.json", "http://[::1]:8080/x", "s3://b/a@2x.png", "/mnt/u:a@b/x?y=z", "s3://b/f?-*/x=1",
        "file:///mnt/a@b", "abfss://c@account.dfs.core.windows.net/a@b",
    ],
)  # fmt: skip
def test_what_only_looks_like_a_secret(src: str) -> None:
    Fetch(src, "/models")


def test_a_listing_that_leads_out_of_the_folder(model: FileServer, tmp_path: Path) -> None:
    model.files["/models/llama/../../../escaped"] = b"x"
    with pytest.raises(DownloadError):
        fetch("s3://models/llama", tmp_path / "dest")
    assert not (tmp_path / "escaped").exists()


def test_on_a_fake_cluster_nothing_is_fetched_from_anywhere() -> None:
    entry = {"hook": NAME, "kwargs": {"src": "s3://models/adapters", "dest": "/models/adapters"}}
    with FakeStore({"s3://models/adapters/a.json": "{}"}) as store:
        run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[entry]))
        assert run.elapsed_s == FakeCluster().run(FakeLLMConfig("m", hooks=[])).elapsed_s
        for node_id in run.nodes:
            assert json.loads(store.disk(node_id, "/models/adapters/a.json").read_text()) == {}
        check_hooks(entry)
        explore_hooks(entry, seeds=4)
