"""What the harness costs: ``make bench-harness``. Medians, ratios within one run; nothing here fails for being slow."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry, NodeCtx, initialization
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, check_hooks, explore_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HOOKS = "tests.benchmarks.ten_hooks"
MORE_HOOKS = "tests.benchmarks.ten_more_hooks"
DOWNSTREAM = Path(__file__).parents[2] / "examples" / "downstream"


@pytest.fixture
def tell(benchmark: Any, capsys: pytest.CaptureFixture[str]) -> Callable[[str, float], None]:
    """Keep a figure with the benchmark, and show it."""

    def keep(what: str, figure: float) -> None:
        benchmark.extra_info[what] = figure
        if benchmark.enabled:
            with capsys.disabled():
                print(f"\n{what}: {figure:.3g}")

    return keep


def fake_start() -> Any:
    return FakeCluster(nodes=4).run(FakeLLMConfig("benchmark", hooks=[HOOKS], model_source="/models/m"))


def median_s(call: Callable[[], object], rounds: int) -> float:
    """The median of so many calls, in seconds."""
    took = []
    for _ in range(rounds):
        begun_s = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun_s)
    return median(took)


def test_a_start_on_four_fake_nodes(benchmark: Any) -> None:
    """Goal: 3 ms."""
    run = benchmark.pedantic(fake_start, rounds=200, warmup_rounds=5)
    assert len(run.hooks) == 10
    assert len(run.trace) == 7 + 3 * 4
    assert run.ctx.custom_data["free_gb"] == 400


@pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")
@pytest.mark.parametrize("processes", ["nodes", True])
@pytest.mark.parametrize("nodes", [1, 4, 64])
def test_a_start_in_processes(benchmark: Any, nodes: int, processes: Any) -> None:
    """Goal: 0.1 s for four nodes, 1.5 s for 64."""
    cluster = FakeCluster(nodes=nodes, processes=processes)
    config = FakeLLMConfig("benchmark", hooks=[HOOKS], model_source="/models/m")
    run = benchmark.pedantic(cluster.run, (config,), rounds=5 if nodes > 4 else 30, warmup_rounds=2)
    assert len(run.trace) == 7 + 3 * nodes
    assert run.ctx.custom_data["free_gb"] == 100 * nodes


@pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")
def test_a_check_of_twenty_hooks(benchmark: Any) -> None:
    """Goal: 3 s."""
    found = benchmark.pedantic(check_hooks, (HOOKS, MORE_HOOKS), rounds=5 if benchmark.enabled else 1)
    assert found.problems == []
    assert len(found.runs) == 8 + 7 + 2 + 18  # scenarios, other faults, modules that are missing, hooks that fail


def test_two_hundred_seeds_are_explored(benchmark: Any) -> None:
    """Goal: 10 s, for ten hooks on four nodes."""
    seeds = 200 if benchmark.enabled else 5
    explore = partial(explore_hooks, HOOKS, model_id="benchmark", seeds=seeds, nodes=4, check=False)
    found = benchmark.pedantic(explore, rounds=3 if benchmark.enabled else 1)
    assert found.findings == []
    assert found.starts >= 2 * seeds


@pytest.fixture
def fourth_node(ray_cluster: Any, three_nodes: list[str]) -> Iterator[None]:
    """One more than the session's Ray has."""
    node = ray_cluster.add_node(num_cpus=4)
    yield
    ray_cluster.remove_node(node)


@pytest.mark.ray
@pytest.mark.usefixtures("fourth_node")
def test_the_same_on_a_local_ray(benchmark: Any, tell: Callable[[str, float], None]) -> None:
    import ray

    from serve_llm_hooks.ray import LLMConfig, RayCluster

    async def start() -> Any:
        config = LLMConfig(
            model_loading_config={"model_id": "benchmark", "model_source": "/models/m"},
            hooks=[HOOKS],
            accelerator_config={"kind": "cpu"},
            placement_group_config={"bundles": [{"CPU": 1}] * 4, "strategy": "STRICT_SPREAD"},
        )
        async with initialization(config, cluster=RayCluster()) as run:
            run.engine = "the engine"
        ray.util.remove_placement_group(run.output.placement_group)
        return run

    took: list[float] = []

    def timed() -> Any:
        begun_s = time.perf_counter()
        run = asyncio.run(start())
        took.append(time.perf_counter() - begun_s)
        return run

    run = benchmark.pedantic(timed, rounds=5, warmup_rounds=1)
    assert len(run.trace) == 7 + 3 * 4
    assert run.ctx.custom_data["free_gb"] == 400
    tell("a start on a local Ray of four nodes, in fake ones", median(took) / median_s(fake_start, 50))


def test_ten_thousand_nodes_are_no_slower_each_than_a_hundred(
    benchmark: Any, tell: Callable[[str, float], None]
) -> None:
    """Goal: a ratio of 1.5. One hook per node, in place: it travels by value."""
    hooks = HookRegistry()

    @hooks.hook("on_before_node_download")
    def one(ctx: NodeCtx) -> None:
        ctx.custom_data["seen"] = ctx.node_id

    config = FakeLLMConfig("m", hooks=[hooks])

    def start(nodes: int) -> Any:
        run = FakeCluster(nodes=nodes).run(config)
        assert len(run.trace) == nodes
        return run

    start(100)
    took: dict[int, list[float]] = {100: [], 10_000: []}

    def in_turn() -> None:
        for nodes, times in took.items():
            times.append(median_s(partial(start, nodes), 1 if nodes > 100 else 5) / nodes)

    benchmark.pedantic(in_turn, rounds=3 if benchmark.enabled else 1)
    tell("a node of 10,000, in nodes of 100", median(took[10_000]) / median(took[100]))


def test_the_downstream_suite(benchmark: Any, tell: Callable[[str, float], None], tmp_path: Path) -> None:
    """Goal: 1 s for the run without start-up, as pytest says it. As installed: compiled once, pytest and we alone."""
    took: list[float] = []
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "serve_llm_hooks_testing.plugin"]

    def run() -> None:
        done = subprocess.run(
            command, cwd=DOWNSTREAM, capture_output=True, text=True, timeout=300, check=False, env=environment
        )
        found = re.search(r"(\d+) passed.* in ([\d.]+)s", done.stdout)
        assert done.returncode == 0, done.stdout
        assert found is not None, done.stdout
        assert int(found[1]) >= 20
        took.append(float(found[2]))

    benchmark.pedantic(run, rounds=5 if benchmark.enabled else 1, warmup_rounds=1 if benchmark.enabled else 0)
    tell("the downstream suite, seconds", median(took))
