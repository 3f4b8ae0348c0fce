"""``on_shutdown`` of real replicas, in each way in which Serve stops one gracefully; an engine without a model."""

from __future__ import annotations

import json
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from tests import stub_engine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.ray

HOOKS = "tests.integration.hooks.shutdown"


class Replicas:
    """Deployments of one model, and what their replicas told at their end."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "told"
        self.ends = folder / "ends"
        self.file.touch()
        self.ends.touch()

    def app(self, what: str, **fields: Any) -> Any:
        """An application without an ingress; each of its replicas will tell ``what``."""
        from ray.serve.llm import build_llm_deployment

        from serve_llm_hooks.ray import LLMConfig

        config = LLMConfig(
            model_id="m",
            hooks=[
                {"hook": f"{HOOKS}:tell", "kwargs": {"file": str(self.file), "what": what}},
                f"{HOOKS}:up",
            ],
            model_loading_config={"model_source": "/nowhere"},
            accelerator_config={"kind": "cpu"},
            log_engine_metrics=False,
            runtime_env={"env_vars": {"RAYLLM_VLLM_ENGINE_CLS": stub_engine.PATH, "STUB_ENGINE_ENDS": str(self.ends)}},
            **{"deployment_config": {"max_constructor_retry_count": 1}, **fields},
        )
        return build_llm_deployment(config)

    def told(self) -> list[dict[str, Any]]:
        """Return what replicas have told."""
        return [json.loads(line) for line in self.file.read_text().splitlines()]

    def wait_for(self, count: int, what: str) -> list[dict[str, Any]]:
        """Wait until so many replicas have told this, and their engines have ended; no more than that may do so."""
        deadline = time.monotonic() + 120

        def those() -> list[dict[str, Any]]:
            ended = set(self.ends.read_text().split())
            return [each for each in self.told() if each["what"] == what and str(each["pid"]) in ended]

        while len(those()) < count:
            assert time.monotonic() < deadline, f"{self.told()}, ended: {self.ends.read_text().split()}"
            time.sleep(0.1)
        assert len(those()) == count
        return those()


@pytest.fixture
def spot_nodes(ray_cluster: Any) -> Iterator[None]:
    """Two more nodes, with one "spot" each."""
    import ray

    count = len(ray.nodes())
    nodes = [ray_cluster.add_node(wait=False, num_cpus=4, resources={"spot": 1}) for _ in range(2)]
    ray_cluster.wait_for_nodes(timeout=120)
    assert len(ray.nodes()) == count + 2
    yield
    for node in nodes:
        ray_cluster.remove_node(node, allow_graceful=False)


def scale(deployment: str, app: str, replicas: int) -> None:
    """Change the number of a deployment's replicas, as the dashboard's API does for external scalers."""
    import ray

    controller = import_module("ray.serve.context")._get_global_client()._controller
    deployment_id = import_module("ray.serve._private.common").DeploymentID(deployment, app)
    ray.get(controller.update_deployment_replicas.remote(deployment_id, replicas))


def drain(node_id: str) -> None:
    """Drain a node, as ``ray drain-node`` and autoscalers do before they take it away."""
    worker, names = import_module("ray._private.worker"), import_module("ray.core.generated.autoscaler_pb2")
    reason = names.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    accepted, why_not = worker.global_worker.gcs_client.drain_node(node_id, reason, "a test", 0)
    assert accepted, why_not


@pytest.mark.fault(
    "a deployment is scaled down: the replicas that go",
    promise="`on_shutdown` hooks run in the replica, and the engine still answers; it ends after them",
)
@pytest.mark.fault(
    "a node is drained: its replicas, once others have started elsewhere",
    promise="`on_shutdown` hooks run in the replica, and the engine still answers; it ends after them",
)
@pytest.mark.usefixtures("serve_url", "spot_nodes")
def test_replicas_that_are_not_needed_or_have_to_move_are_stopped(tmp_path: Path) -> None:
    import ray
    from ray import serve

    replicas = Replicas(tmp_path)
    app = replicas.app(
        "gone",
        deployment_config={"num_replicas": 2, "max_constructor_retry_count": 1},
        placement_group_config={"bundles": [{"CPU": 1, "spot": 1}]},
    )
    serve.run(app, name="app", route_prefix="/app", external_scaler_enabled=True)
    (deployment,) = serve.status().applications["app"].deployments

    scale(deployment, "app", 1)
    (scaled_down,) = replicas.wait_for(1, "gone")
    assert (scaled_down["answer"], scaled_down["before"]) == ("ok", ["up", "up (finish)"])

    spots = [node["NodeID"] for node in ray.nodes() if node["Alive"] and "spot" in node["Resources"]]
    (left,) = {*spots} - {*scaled_down["nodes"]}
    drain(left)
    moved = replicas.wait_for(2, "gone")[1]
    assert (moved["nodes"], moved["answer"]) == ([left], "ok")
    assert serve.status().applications["app"].status == "RUNNING"
    serve.delete("app")


@pytest.mark.fault(
    "a deployment is deployed anew: its old replicas",
    promise="`on_shutdown` hooks run in the replica, and the engine still answers; it ends after them",
)
@pytest.mark.fault(
    "an application is deleted (`serve.delete`)",
    promise="`on_shutdown` hooks run in the replica, and the engine still answers; it ends after them",
)
@pytest.mark.fault(
    "Serve is shut down (`serve.shutdown`)",
    promise="`on_shutdown` hooks run in the replica, and the engine still answers; it ends after them",
)
def test_replicas_are_stopped(serve_url: str, tmp_path: Path) -> None:
    from ray import serve

    replicas = Replicas(tmp_path)
    serve.run_many(
        [
            serve.RunTarget(replicas.app("replaced"), name="app", route_prefix="/app"),
            serve.RunTarget(replicas.app("deleted"), name="other", route_prefix="/other"),
        ]
    )
    assert replicas.told() == []

    serve.delete("other")
    (told,) = replicas.wait_for(1, "deleted")
    assert (told["answer"], len(told["nodes"]), told["before"]) == ("ok", 1, ["up", "up (finish)"])

    serve.run(replicas.app("stopped with Serve"), name="app", route_prefix="/app")
    replicas.wait_for(1, "replaced")

    serve.shutdown()
    (told,) = replicas.wait_for(1, "stopped with Serve")
    assert (told["answer"], told["before"]) == ("ok", ["up", "up (finish)"])
    assert len(replicas.told()) == 3
