"""Google's and Azure's stores: obstore's own clients, and a server on loopback that answers as theirs do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks import DownloadError
from serve_llm_hooks.recipes import Fetch
from serve_llm_hooks_testing import node_ctx

if TYPE_CHECKING:
    from pathlib import Path

    from tests.file_server import FileServer

MODEL = {"config.json": b"{}", "a/b.bin": bytes(range(256)) * 4096}


@pytest.fixture(params=["gs", "az"])
def place(request: pytest.FixtureRequest, s3: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model in such a store."""
    s3.files = {f"/models/llama/{name}": content for name, content in MODEL.items()}
    if request.param == "az":
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "acme")
        monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "c2VjcmV0")
        monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", s3.url)
        s3.headers = {"x-ms-blob-type": "BlockBlob"}
    else:
        key = {
            "gcs_base_url": s3.url,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        (tmp_path / "key.json").write_text(json.dumps(key))
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "key.json"))
    return f"{request.param}://models/llama"


def fetch(place: str, dest: Path) -> dict[str, bytes]:
    Fetch(place, str(dest)).on_before_node_download(node_ctx())
    return {name: (dest / name).read_bytes() for name in MODEL if (dest / name).exists()}


def test_a_folder_a_glob_and_a_file(place: str, tmp_path: Path) -> None:
    assert fetch(place, tmp_path / "folder") == MODEL
    assert list(fetch(f"{place}/*.json", tmp_path / "glob")) == ["config.json"]
    assert list(fetch(f"{place}/config.json", tmp_path / "file")) == ["config.json"]


def test_what_is_there_is_not_read_again(place: str, tmp_path: Path, s3: FileServer) -> None:
    fetch(place, tmp_path / "dest")
    s3.asked.clear()
    assert fetch(place, tmp_path / "dest") == MODEL
    assert s3.asked == []


def test_a_connection_that_is_cut_is_gone_on_with(place: str, tmp_path: Path, s3: FileServer) -> None:
    s3.fault = lambda request: "cut" if len(s3.asked) < 4 else None
    assert fetch(place, tmp_path / "dest") == MODEL


def test_a_file_that_changes_under_way_ends_the_start(place: str, tmp_path: Path, s3: FileServer) -> None:
    def change(request: object) -> None:
        s3.files["/models/llama/a/b.bin"] = bytes(len(MODEL["a/b.bin"]))

    s3.fault = change
    with pytest.raises(DownloadError, match=r"b\.bin was changed while it was read"):
        fetch(place, tmp_path / "dest")


def test_what_may_not_be_read_and_what_is_not_there(place: str, tmp_path: Path, s3: FileServer) -> None:
    with pytest.raises(DownloadError, match="none is not there"):
        fetch(f"{place}/none", tmp_path / "dest")
    s3.fault = lambda request: 403
    with pytest.raises(DownloadError, match=r"may not be read: 403 Forbidden") as error:
        fetch(place, tmp_path / "dest")
    assert "c2VjcmV0" not in str(error.value)
