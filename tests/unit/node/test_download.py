"""Downloads on a node by Ray's downloader: its place is taken here by one that writes nothing."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import DownloadMode
from serve_llm_hooks.ray import internals
from serve_llm_hooks.ray.download import download
from tests.unit.stub import MIRROR, node_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

RAYS_LOG = logging.getLogger(f"ray.llm.{__name__}")


class Downloader:
    """Ray's, for weights: it does what the next of some functions does."""

    def __init__(self, *calls: Callable[[], None]) -> None:
        self.calls = list(calls)
        self.begun = 0

    def download_files(self, **_: Any) -> None:
        """Do the next."""
        self.begun += 1
        self.calls.pop(0)()


def weights(**fields: Any) -> str | None:
    task = node_task([], **{"mirror": MIRROR, "weights": "only", "model_path": "/models/m", **fields})
    return asyncio.run(download(task, DownloadMode.MODEL_AND_TOKENIZER))


def fail() -> None:
    raise OSError("no space")


def log_a_failure() -> None:
    RAYS_LOG.error("Failed to download /models/m/1.safetensors")


def succeed() -> None:
    """Bring all files."""


class Waiting:
    """Another replica on the node: it begins while the first one downloads, and waits for the lock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> None:
        self.path: str | None = None
        self._fields = fields
        self._thread = threading.Thread(target=self._run)
        self._waits = threading.Event()
        flock = fcntl.flock

        def tell(file: Any, operation: int) -> None:
            if not operation & fcntl.LOCK_NB:
                self._waits.set()
            flock(file, operation)

        monkeypatch.setattr(fcntl, "flock", tell)

    def begin(self) -> None:
        """Return when it waits."""
        self._thread.start()
        assert self._waits.wait(10)

    def ended(self) -> str | None:
        """Return the path, when it has ended."""
        self._thread.join(10)
        return self.path

    def _run(self) -> None:
        self.path = weights(**self._fields)


@pytest.fixture(autouse=True)
def a_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Give the locks a folder of their own."""
    monkeypatch.setenv("HOME", str(tmp_path))


def rays_downloader(monkeypatch: pytest.MonkeyPatch, *calls: Callable[[], None]) -> Downloader:
    downloader = Downloader(*calls)
    monkeypatch.setitem(vars(internals), "CloudFileSystem", downloader)  # setattr would import Ray's
    return downloader


@pytest.mark.parametrize("goes_wrong", [fail, log_a_failure])
def test_who_waits_for_the_weights_downloads_them_if_the_other_has_failed(
    goes_wrong: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Waiting(monkeypatch)

    def first() -> None:
        other.begin()
        goes_wrong()

    downloader = rays_downloader(monkeypatch, succeed, first, succeed)
    weights()  # of an earlier start, whose end does not count
    with pytest.raises((OSError, RuntimeError), match=r"no space|Failed to download"):
        weights()
    assert other.ended() == "/models/m"
    assert downloader.begun == 3


def test_who_waits_for_the_weights_takes_those_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Waiting(monkeypatch)
    downloader = rays_downloader(monkeypatch, other.begin)
    assert weights() == other.ended() == "/models/m"
    assert downloader.begun == 1


def test_who_waits_for_other_weights_downloads_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    other = Waiting(monkeypatch, mirror={"bucket_uri": "s3://models/another"})
    downloader = rays_downloader(monkeypatch, other.begin, succeed)
    assert weights() == other.ended() == "/models/m"
    assert downloader.begun == 2
