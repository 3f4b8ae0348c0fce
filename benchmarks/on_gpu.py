"""Measure on a GPU, Ray alone beside ours, in six minutes and without a network; into benchmarks/gpu-results.json.

`scripts/gpu-measure.sh` runs this. Each step has what is left of the time, and what it found is saved at once; what no
time was left for, or has failed, is said. `--dry` does the same with a made-up GPU and the engine on the CPU, into a
file of its own, to see that all is in order before a GPU is at hand.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from .report import write_report
from .run import REACH, REPOSITORY, in_process, say, stamp

RESULTS = REPOSITORY / "benchmarks" / "gpu-results.json"
FILE = "BENCH_GPU_RESULTS"  # names another file, for a dry run
LIMIT_S = 350.0
ALONE = {  # nothing is asked of a network
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}


class Found(NamedTuple):
    """Hold what a step has measured."""

    keys: dict[str, float]
    samples: dict[str, Any]


class Run:
    """One run of all steps.

    Args:
        dry: whether there is no GPU.
        limit_s: how long all of it may take.
    """

    def __init__(self, *, dry: bool, limit_s: float) -> None:
        self.dry = dry
        self.model = ""
        self._end_s = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        """The seconds that are left."""
        return self._end_s - time.monotonic()

    def gpu_path(self) -> Found:
        """The key of a GPU's way to the engine's config, whose task has the GPU and makes the config of a model."""
        samples = self._program("benchmarks.gpu_path", "1", "1" if self.dry else "2", self.model)

        def ratio(side: str, since: str) -> float:
            ours, theirs = (float(median(start[since] for start in samples[name])) for name in (side, "theirs"))
            return ours / theirs

        if not all(start["warm"] for start in samples["ours"] + samples["ours without hooks"]):
            say("  the config task did not always get the process that had imported vLLM")
        keys = {
            "node_init_and_config_1": ratio("ours", "start begins"),
            "node_init_and_config_1_without_hooks": ratio("ours without hooks", "start begins"),
            "gpu_path": ratio("ours", "server module"),
        }
        return Found(keys, {"gpu_path_1_s": samples})

    def tests(self) -> Found:
        """`make test-gpu`, which saves what it measures itself."""
        command = ["make", "test-gpu"]
        if self.dry:
            command = [sys.executable, "-m", "pytest", "tests/gpu", "-q"]
        self._output(command)
        return Found({}, {})

    def deployments(self) -> Found:
        """A whole cold start of each side, on a Ray of its own."""
        starts = {side: self._program("benchmarks.deploy", side, self.model) for side in ("theirs", "ours")}
        first = {side: start["moments"]["first token"] for side, start in starts.items()}
        return Found({"deploy_to_first_token": first["ours"] / first["theirs"]}, {"deploy_s": starts})

    def process(self) -> Found:
        """Measure the dispatch keys in one process, with fewer turns than `make bench` takes."""
        os.environ["BENCH_TURNS"] = "3"
        results: dict[str, Any] = {"keys": {}, "samples": {}}
        in_process(results, quick=True)
        dispatch = {name: value for name, value in results["keys"].items() if name.startswith("dispatch_")}
        return Found(dispatch, {"in_process_s": results["samples"]["in_process_s"]})

    def _program(self, module: str, *arguments: str) -> Any:
        output = self._output([sys.executable, "-m", module, *arguments])
        line = next(line for line in output.splitlines() if line.startswith("SAMPLES "))
        return json.loads(line.removeprefix("SAMPLES "))

    def _output(self, command: list[str]) -> str:
        """Return what a command prints; end it, and all that it started, when the time is over."""
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=os.environ | self._environment(),
        )
        try:
            output, errors = process.communicate(timeout=max(self.left_s, 1.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise RuntimeError("it took longer than there was time") from None
        if process.returncode != 0:
            raise RuntimeError(f"it ended with {process.returncode}:\n{output[-3000:]}\n{errors[-3000:]}")
        return output

    def _environment(self) -> dict[str, str]:
        accelerator = "cpu" if self.dry else "gpu"
        return {**ALONE, "BENCH_ACCELERATOR": accelerator, "SERVE_LLM_HOOKS_GPU_TESTS_ON": accelerator}


# What each needs at least, in seconds, to be worth beginning. The first are those that only a GPU can tell.
STEPS = {"gpu_path": 60.0, "tests": 80.0, "deployments": 60.0, "process": 15.0}


def main() -> int:
    """Measure; 1 if something could not be, or is over its reach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dry", action="store_true", help="without a GPU, to see that all is in order")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help=f"seconds for all of it ({LIMIT_S:g})")
    options = parser.parse_args()
    run = Run(dry=options.dry, limit_s=options.limit_s)
    device = "none: a dry run"
    if options.dry:
        os.environ.setdefault(FILE, str(Path(tempfile.mkdtemp()) / RESULTS.name))
    else:
        torch = import_module("torch")
        if not torch.cuda.is_available():
            say("no CUDA device; --dry runs this without one")
            return 1
        device = str(torch.cuda.get_device_name(0))
    with tempfile.TemporaryDirectory() as folder:
        run.model = str(import_module("tests.engine_models").make_tiny_llama(Path(folder) / "tiny"))
        missing = [name for name, needs_s in STEPS.items() if not _measured(run, name, needs_s, device)]
    results = json.loads(results_file().read_text()) if results_file().exists() else {"keys": {}}
    over = [key for key, value in results["keys"].items() if value > REACH.get(key, value)]
    for key, value in results["keys"].items():
        say(f"{key:40s} {value:10.4g}   reach {REACH[key]:g}" if key in REACH else f"{key:40s} {value:10.4g}")
    say(f"not measured: {', '.join(missing)}" if missing else f"measured: {', '.join(STEPS)}")
    say(f"over the reach: {', '.join(over)}" if over else "nothing is over its reach")
    say(f"written: {results_file()}")
    if not options.dry:
        write_report(json.loads((REPOSITORY / "benchmarks" / "results.json").read_text()))
    return 1 if missing or over else 0


def _measured(run: Run, name: str, needs_s: float, device: str) -> bool:
    if run.left_s < needs_s:
        say(f"{name}: {run.left_s:.0f} s are left, too few")
        return False
    say(f"{name}: begins, with {run.left_s:.0f} s left")
    try:
        found: Found = getattr(run, name)()
    except RuntimeError as error:
        say(f"{name}: {error}")
        return False
    if found.keys:
        save(name, device, found.keys, found.samples)
    return True


def results_file() -> Path:
    """Return the file that results go to."""
    return Path(os.environ.get(FILE) or RESULTS)


def save(part: str, device: str, keys: dict[str, float], samples: dict[str, Any]) -> None:
    """Add what was measured on a device to what is known of it; what is known of another one goes."""
    file = results_file()
    known: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    if known.get("device") != device:
        known = {}
    results = {
        "device": device,
        "keys": {**known.get("keys", {}), **keys},
        "stamps": {**known.get("stamps", {}), part: stamp(quick=False)},
        "samples": {**known.get("samples", {}), **samples},
    }
    file.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
