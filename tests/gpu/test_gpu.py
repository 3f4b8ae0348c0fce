"""The deployment test with the accelerator switched, and what hooks cost on a GPU's cold start.

Where there is no CUDA device it is skipped; `make test-gpu` fails instead. SERVE_LLM_HOOKS_GPU_TESTS_ON=cpu runs the
same module on the CPU, to see that it is in order before a GPU is at hand.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benchmarks.on_gpu import FILE, save
from tests.deployed import check
from tests.engine_models import make_tiny_llama

pytestmark = [pytest.mark.gpu, pytest.mark.engine, pytest.mark.ray]

REPOSITORY = Path(__file__).parents[2]
ACCELERATOR = os.environ.get("SERVE_LLM_HOOKS_GPU_TESTS_ON", "gpu")


@pytest.fixture(scope="module", autouse=True)
def device() -> str:
    """The accelerator's name; skips where there is none."""
    if ACCELERATOR == "cpu":
        return "none: a dry run"
    try:
        torch = importlib.import_module("torch")
        found = bool(torch.cuda.is_available())
    except ImportError:
        found = False
    if not found:
        if os.environ.get("SERVE_LLM_HOOKS_REQUIRE_GPU"):
            pytest.fail("no CUDA device")
        pytest.skip("no CUDA device")
    return str(torch.cuda.get_device_name(0))


@pytest.fixture(scope="module")
def tiny_model(device: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that loads in no time and makes no sense."""
    return make_tiny_llama(tmp_path_factory.mktemp("model") / "tiny")


def program(module: str, *arguments: str) -> Any:
    """Run a module that prints one line of JSON, in a process and on a Ray of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "HF_"))}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
        env=environment | {"BENCH_ACCELERATOR": ACCELERATOR},
    )
    for line in done.stdout.splitlines():
        if line.startswith(("SEEN ", "SAMPLES ")):
            return json.loads(line.partition(" ")[2])
    pytest.fail(f"{module} {' '.join(arguments)} failed:\n{done.stdout[-2000:]}\n{done.stderr[-6000:]}")


def test_all_points_run_around_a_real_engine_that_then_answers(tiny_model: Path) -> None:
    seen = program("tests.deployed", ACCELERATOR, str(tiny_model))
    check(seen)  # the same as on the CPU: the same order of hooks, the same arguments in the engine
    if ACCELERATOR == "gpu":
        assert any(bundle.get("GPU", 0) > 0 for bundle in seen["bundles"])


def test_overhead(tiny_model: Path, device: str) -> None:
    """Measure, and write it down; the figures are for the docs, not for passing or failing."""
    start = program("benchmarks.deploy", "timed", str(tiny_model))
    nodes = program("benchmarks.node_init", "1", "3")
    keys = {
        "hook_share": start["own_s"] / start["moments"]["first token"],
        "node_init_1": median(nodes["ours"]) / median(nodes["theirs"]),
    }
    assert 0 <= keys["hook_share"] < 1
    assert len(nodes["ours"]) == len(nodes["theirs"]) == 3
    if ACCELERATOR == "gpu" or FILE in os.environ:
        save("test-gpu", device, keys, {"start": start, "node_init_1_s": nodes})
    print(json.dumps(keys, indent=1))
