"""Ray's metrics of real replicas, read where Prometheus reads them."""

from __future__ import annotations

import os
import re
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from tests import stub_engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.ray

HOOKS = "tests.integration.hooks.measured"


class Endpoint:
    """A node's Prometheus endpoint."""

    def __init__(self, url: str) -> None:
        self.url = url

    def values(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return what there is of a metric of this test's model, added up by these labels."""
        with urllib.request.urlopen(self.url, timeout=10) as answer:
            text = answer.read().decode()
        found: dict[tuple[str, ...], float] = {}
        for told, value in re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE):
            given = dict(re.findall(r'(\w+)="([^"]*)"', told))
            if given.get("model", "measured") == "measured":
                key = tuple(given[label] for label in labels)
                found[key] = found.get(key, 0.0) + float(value)
        return found

    def ours(self, name: str, *labels: str) -> dict[tuple[str, ...], float]:
        """Return the same of one of our metrics."""
        return self.values(f"ray_serve_llm_hooks_{name}", *labels)

    def wait(self, what: Callable[[Endpoint], bool]) -> None:
        """Wait until something is true of what it shows."""
        deadline = time.monotonic() + 60
        while not what(self):
            assert time.monotonic() < deadline, self.ours("hook_runs_total", "hook", "outcome")
            time.sleep(0.2)


@pytest.fixture
def endpoint(ray_cluster: Any, three_nodes: list[str]) -> Iterator[Endpoint]:
    """That of a fourth node. Its processes send their metrics each second; its agent forgets a gauge after twice that.

    With Ray's default, ten seconds, it takes twenty.
    """
    import ray

    environment = {"RAY_metrics_report_interval_ms": "1000", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    node = ray_cluster.add_node(num_cpus=4, resources={"measured": 1000}, env_vars=environment)
    try:
        (row,) = (each for each in ray.nodes() if "measured" in each["Resources"] and each["Alive"])
        yield Endpoint(f"http://{row['NodeManagerAddress']}:{row['MetricsExportPort']}/metrics")
    finally:
        ray_cluster.remove_node(node, allow_graceful=False)


def app(folder: Path) -> Any:
    """An application of one replica on that node, which comes up at the second try."""
    from ray.serve.llm import build_llm_deployment

    from serve_llm_hooks.ray import LLMConfig

    return build_llm_deployment(
        LLMConfig(
            model_id="measured",
            hooks=[
                {"hook": f"{HOOKS}:fails_once", "kwargs": {"file": str(folder / "tried")}},
                f"{HOOKS}:on_the_node",
                f"{HOOKS}:sets_a_gauge",
                f"{HOOKS}:says_goodbye",
            ],
            model_loading_config={"model_source": "/nowhere"},
            accelerator_config={"kind": "cpu"},
            placement_group_config={"bundles": [{"CPU": 1, "measured": 1}]},
            log_engine_metrics=False,
            runtime_env={"env_vars": {"RAYLLM_VLLM_ENGINE_CLS": stub_engine.PATH}},
            deployment_config={"max_constructor_retry_count": 2},
        )
    )


def test_starts_good_and_bad_are_in_rays_metrics_and_stay_there(
    serve_url: str, endpoint: Endpoint, tmp_path: Path
) -> None:
    from ray import serve

    target = serve.RunTarget(app(tmp_path), name="measured", route_prefix="/measured")
    serve.run_many([target], wait_for_applications_running=False)  # the gauge is there for two seconds
    endpoint.wait(lambda shown: bool(shown.values("ray_measured_gauge")))
    endpoint.wait(lambda shown: shown.ours("starts_total", "outcome") == {("ok",): 1, ("failed",): 1})
    assert endpoint.ours("hook_runs_total", "point", "hook", "outcome") == {
        ("on_before_init", f"{HOOKS}:fails_once", "failed"): 1,
        ("on_before_init", f"{HOOKS}:fails_once", "ok"): 1,
        ("on_before_node_download", f"{HOOKS}:on_the_node", "ok"): 1,
        ("on_after_init", f"{HOOKS}:sets_a_gauge", "ok"): 1,
    }
    where = endpoint.ours("starts_total", "application", "deployment", "model")
    assert list(where) == [("measured", "LLMServer:measured", "measured")]
    took = endpoint.ours("start_seconds_total", "outcome")[("ok",)]
    in_buckets = endpoint.ours("start_duration_seconds_bucket", "outcome", "le")
    assert took > 0
    assert in_buckets["ok", "+Inf"] == 1
    assert endpoint.ours("start_duration_seconds_count", "outcome")[("ok",)] == 1

    # A minute later is when the agent has forgotten what was set once, as it does with the hook's gauge.
    endpoint.wait(lambda shown: not shown.values("ray_measured_gauge"))
    assert endpoint.ours("starts_total", "outcome") == {("ok",): 1, ("failed",): 1}
    assert endpoint.ours("start_duration_seconds_count", "outcome")[("ok",)] == 1

    # The replica ends; what its last hook did is heard of all the same, and what it did before stays.
    serve.delete("measured")
    goodbye = ("on_shutdown", f"{HOOKS}:says_goodbye", "ok")
    endpoint.wait(lambda shown: goodbye in shown.ours("hook_runs_total", "point", "hook", "outcome"))
    assert endpoint.ours("starts_total", "outcome") == {("ok",): 1, ("failed",): 1}


def test_they_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_llm_hooks.ray import RayCluster

    assert RayCluster().metrics_writer() is not None
    monkeypatch.setenv("SERVE_LLM_HOOKS_METRICS", "0")
    assert RayCluster().metrics_writer() is None
