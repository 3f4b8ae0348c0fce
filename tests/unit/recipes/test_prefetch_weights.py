"""Weights in the page cache, on real files."""

from __future__ import annotations

import ctypes
import logging
import mmap
import os
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks.recipes import prefetch_weights
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 3 * 2**20 + 17


@pytest.fixture
def weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two files of weights that are on the disk only, and pieces so small that each has several."""
    monkeypatch.setattr(prefetch_weights, "_PIECE", 2**20)
    files = [folder / "model.safetensors", folder / "model-2.safetensors"]
    for file in files:
        file.write_bytes(b"w" * SIZE)
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return files


def cached(file: Path) -> float:
    """Return how much of a file is in the page cache, from 0 to 1."""
    libc: Any = ctypes.CDLL(None, use_errno=True)
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapped:
        pages = (ctypes.c_ubyte * -(-SIZE // mmap.PAGESIZE))()
        view = ctypes.c_char.from_buffer(mapped)
        try:
            assert libc.mincore(ctypes.c_void_p(ctypes.addressof(view)), ctypes.c_size_t(SIZE), pages) == 0
        finally:
            del view
    return sum(page & 1 for page in pages) / len(pages)


def run(caplog: pytest.LogCaptureFixture, **kwargs: Any) -> str:
    entry = {"hook": "serve_llm_hooks.recipes:PrefetchWeights", "kwargs": kwargs}
    with caplog.at_level(logging.INFO, "serve_llm_hooks.recipes"):
        FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[entry]))
    (record,) = [record for record in caplog.records if record.name == "serve_llm_hooks.recipes"]
    return record.getMessage()


def test_all_of_it_is_read(weights: list[Path], caplog: pytest.LogCaptureFixture) -> None:
    told = run(caplog, path=str(weights[0].parent), leave_gib=0)
    assert "0.0 of 0.0 GiB of weights read into the page cache" in told
    assert "there is no memory" not in told
    assert [cached(file) for file in weights] == [1, 1]


def test_no_more_than_the_memory_that_there_is(
    weights: list[Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefetch_weights, "available_memory", lambda: 4 * 2**30)
    before = [cached(file) for file in weights]
    told = run(caplog, path=str(weights[0].parent), leave_gib=4)
    assert "there is no memory for more beside the 4 GiB of leave_gib=" in told
    assert [cached(file) for file in weights] == before


def test_without_a_folder_there_is_nothing_to_do(caplog: pytest.LogCaptureFixture) -> None:
    assert "no weights to prefetch" in run(caplog)
