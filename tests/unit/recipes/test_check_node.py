"""Nodes that are not fit."""

from __future__ import annotations

import tempfile
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psutil
import pynvml
import pytest

from serve_llm_hooks import NodeInitializationError
from serve_llm_hooks.recipes import CheckNode
from serve_llm_hooks.recipes._memory import GIB, available_memory
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, node_ctx

if TYPE_CHECKING:
    from pathlib import Path

TOO_MUCH = 1e6


def problems_of(check: CheckNode) -> str:
    with pytest.raises(RuntimeError, match="this node is not fit for the model: ") as caught:
        check.on_before_node_download(node_ctx())
    return str(caught.value).partition(": ")[2]


def test_a_node_that_has_enough_is_fit(tmp_path: Path) -> None:
    fit = CheckNode(min_free_gib=0.001, path=str(tmp_path / "not" / "there"), min_memory_gib=0.001, min_cpus=1)
    fit.on_before_node_download(node_ctx())


def test_all_that_a_node_lacks_is_told_at_once() -> None:
    lacking = CheckNode(min_free_gib=TOO_MUCH, min_memory_gib=TOO_MUCH, min_shm_gib=TOO_MUCH, min_cpus=TOO_MUCH)
    disk, memory, shm, cpus = problems_of(lacking).split("; ")
    assert disk.endswith(f"GiB free for {tempfile.gettempdir()}, and not 1e+06")
    assert float(memory.split()[0]) == pytest.approx(psutil.virtual_memory().available / GIB, rel=0.5)
    assert memory.endswith("GiB of memory, and not 1e+06")
    assert "GiB free in /dev/shm" in shm
    assert "CPUs" in cpus


def test_the_bad_node_of_three_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    free = iter([100, 3, 100])
    monkeypatch.setattr(psutil, "disk_usage", lambda path: SimpleNamespace(free=next(free) * GIB))
    config = FakeLLMConfig("m", hooks=[{"hook": CheckNode, "kwargs": {"min_free_gib": 20}}])
    with pytest.raises(NodeInitializationError, match=r"3.0 GiB free for .*, and not 20") as caught:
        FakeCluster(nodes=3).run(config)
    assert len(caught.value.node_ids) == 1
    assert "10.0.0." in str(caught.value)  # its address


@pytest.mark.parametrize(
    ("files", "free"),
    [
        (
            {
                "memory.max": "1073741824",
                "memory.current": "805306368",
                "memory.stat": "anon 1\ninactive_file 268435456",
            },
            0.5,
        ),
        ({"memory.max": "max", "memory.current": "805306368", "memory.stat": "anon 1"}, None),
        (
            {
                "memory/memory.limit_in_bytes": "1073741824",
                "memory/memory.usage_in_bytes": "1073741824",
                "memory/memory.stat": "total_inactive_file 0\ntotal_active_file 134217728",
            },
            0.125,
        ),
        ({}, None),
    ],
)
def test_the_limit_of_the_container_counts(tmp_path: Path, files: dict[str, str], free: float | None) -> None:
    (tmp_path / "memory").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    expected = psutil.virtual_memory().available / GIB if free is None else free
    assert available_memory(tmp_path) / GIB == pytest.approx(expected, rel=0.2)


# -- GPUs: NVML's answers are made up, its names are real -------------------------------------------------------------


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """GPUs, each with ``free_gib`` and ``errors`` (``None`` where it has no ECC)."""
    devices: list[Any] = []

    def errors_of(device: Any, *kinds: int) -> int:
        if device.errors is None:
            raise pynvml.NVMLError(3)
        return int(device.errors)

    for name, answer in {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlSystemGetDriverVersion": lambda: "550.54.15",
        "nvmlDeviceGetCount": lambda: len(devices),
        "nvmlDeviceGetHandleByIndex": lambda index: devices[index],
        "nvmlDeviceGetMemoryInfo": lambda device: SimpleNamespace(free=device.free_gib * GIB),
        "nvmlDeviceGetTotalEccErrors": errors_of,
    }.items():
        monkeypatch.setattr(pynvml, name, answer)
    return devices


def test_enough_gpus_must_be_fit(gpus: list[Any]) -> None:
    gpus += [SimpleNamespace(free_gib=79, errors=0), SimpleNamespace(free_gib=79, errors=None)]
    gpus += [SimpleNamespace(free_gib=3, errors=0), SimpleNamespace(free_gib=79, errors=2)]
    CheckNode(gpus=2, min_gpu_free_gib=70, min_driver="550").on_before_node_download(node_ctx())
    assert problems_of(CheckNode(gpus=3, min_gpu_free_gib=70)) == (
        "2 fit GPUs, and not 3, GPU 2 has 3.0 GiB free, GPU 3 has 2 uncorrected memory errors"
    )
    assert problems_of(CheckNode(gpus=9)).startswith("3 fit GPUs, and not 9, GPU 3 has")


@pytest.mark.parametrize(
    "asked", ["nvmlDeviceGetHandleByIndex", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetTotalEccErrors"]
)
def test_a_lost_gpu_is_one_of_the_problems(gpus: list[Any], monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    gpus += [SimpleNamespace(free_gib=79, errors=0), SimpleNamespace(free_gib=79, errors=0)]
    answer = getattr(pynvml, asked)

    def lost(which: Any, *kinds: int) -> Any:
        if which in (1, gpus[1]):
            raise pynvml.NVMLError(15)  # it is lost
        return answer(which, *kinds)

    gpus[0].name, gpus[1].name = "first", "second"  # so that they differ
    monkeypatch.setattr(pynvml, asked, lost)
    CheckNode(gpus=1).on_before_node_download(node_ctx())
    assert problems_of(CheckNode(gpus=2)) == "1 fit GPUs, and not 2, GPU 1 does not answer (GPU is lost)"


@pytest.mark.parametrize("asked", ["nvmlSystemGetDriverVersion", "nvmlDeviceGetCount"])
def test_a_driver_that_does_not_answer_is_told_with_the_other_problems(
    gpus: list[Any], monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    def fails() -> None:
        raise pynvml.NVMLError(999)  # unknown

    monkeypatch.setattr(pynvml, asked, fails)
    told = problems_of(CheckNode(gpus=1, min_free_gib=1e9))
    assert "GiB free for" in told
    assert told.endswith("; the driver does not answer (Unknown Error)")


def test_an_old_driver_is_told(gpus: list[Any]) -> None:
    assert problems_of(CheckNode(min_driver="560.1")) == "the driver is 550.54.15, and not 560.1 or newer"


def test_a_node_without_a_driver_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_library() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", no_library)
    told = problems_of(CheckNode(gpus=1))
    assert told.startswith("no GPU can be asked (NVML Shared Library Not Found): is the driver installed, and ")
