"""A real Ray of three nodes on this machine, a real S3 on loopback. Started once for all tests that ask for them
(`tests/contract`, `tests/integration`, `tests/benchmarks`), shut down whatever happens."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

IN_CI = os.environ.get("CI") == "true"

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background; what tests start inherits it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")

# A folder of modules that are installed on the first and the third node, and not on the second.
PARTLY_INSTALLED = Path(__file__).parent / "contract" / "partly"


# The test that runs. Left behind by a run that hung: `make test` shows it, and of its tracebacks may see only the end.
UNFINISHED = Path(__file__).parents[1] / ".pytest_cache" / "unfinished"


def pytest_runtest_logstart(nodeid: str) -> None:
    UNFINISHED.parent.mkdir(exist_ok=True)
    UNFINISHED.write_text(f"unfinished: {nodeid}\n")


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # a worker of xdist ends before the others
        UNFINISHED.write_text("")


def require(module: str, what: str) -> None:
    """Skip where something is not installed; in CI that is a failure."""
    try:
        __import__(module)
    except ImportError as error:
        if IN_CI:
            raise
        pytest.skip(f"{what} is not installed ({error}); `make .venv/.engine` installs it")


def require_engine() -> None:
    """Skip where Ray Serve LLM and the CPU engine are not installed; in CI that is a failure."""
    require("ray", "Ray")
    require("vllm", "the CPU engine")


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an S3 server on loopback; set for this process and all that it starts."""
    require("moto", "the S3 server for tests")
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        os.environ.update(
            AWS_ENDPOINT_URL_S3=url,
            AWS_ACCESS_KEY_ID="test",
            AWS_SECRET_ACCESS_KEY="test",
            AWS_DEFAULT_REGION="us-east-1",
        )
        yield url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def bucket(s3: str) -> str:
    """A bucket with a model in it."""
    import boto3

    client = boto3.client("s3", endpoint_url=s3)
    client.create_bucket(Bucket="models")
    client.create_bucket(Bucket="empty")
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        body = b'{"dtype": "bfloat16", "tie_word_embeddings": false}' if name == "config.json" else b"{}"
        client.put_object(Bucket="models", Key=f"m/{name}", Body=body)
    client.put_object(Bucket="models", Key="extra/notes.txt", Body=b"extra")
    return "s3://models/m"


@pytest.fixture(scope="session")
def ray_cluster(s3: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A Ray of three nodes, of 4 CPUs each, to which tests may add nodes. Node ``i`` has the resource ``slot-i``."""
    require_engine()
    os.environ["HF_HOME"] = str(tmp_path_factory.mktemp("hf"))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "120")  # Ray's half minute is too short on a busy machine
    # Importing Ray Serve LLM takes pytest's handlers from the root logger. Here, and not in the middle of a test.
    import ray.serve.llm
    from ray.cluster_utils import Cluster

    def node(slot: int) -> dict[str, Any]:
        paths = [] if slot == 1 else [str(PARTLY_INSTALLED)]
        paths += filter(None, [os.environ.get("PYTHONPATH")])
        return {
            "num_cpus": 4,
            "resources": {f"slot-{slot}": 1000},
            "env_vars": {"PYTHONPATH": os.pathsep.join(paths)},
        }

    cluster = Cluster(shutdown_at_exit=True)
    try:
        _add_node(cluster, **node(0), include_dashboard=False)
        for slot in (1, 2):
            _add_node(cluster, **node(slot))
        ray.init(address=cluster.address, log_to_driver=False)
        cluster.wait_for_nodes(timeout=120)
        _wait_for_autoscaler()
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def _add_node(cluster: Any, **settings: Any) -> None:
    """Start a node, up to three times: a raylet gives its agent 15 seconds, whatever the machine, and then ends."""
    for attempts_left in (2, 1, 0):
        try:
            cluster.add_node(**settings)
        except Exception:
            if not attempts_left:
                raise
        else:
            return


def _wait_for_autoscaler() -> None:
    """Until it has reported for the first time, nothing can be called impossible: it might add nodes."""
    from serve_llm_hooks.ray.capacity import autoscales

    deadline = time.monotonic() + 120
    while autoscales():
        assert time.monotonic() < deadline, "Ray's autoscaler says nothing"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def three_nodes(ray_cluster: Any) -> list[str]:
    """The ids of the three nodes, in the order of their slots, the test's own first."""
    import ray

    slots = {node["NodeID"]: slot for node in ray.nodes() for slot in range(3) if f"slot-{slot}" in node["Resources"]}
    node_ids = sorted(slots, key=lambda node_id: slots[node_id])
    assert node_ids[0] == ray.get_runtime_context().get_node_id()
    return node_ids


def written(node_id: str) -> str:
    """Return a node of the running Ray as messages write it."""
    from serve_llm_hooks.ray import RayCluster

    return str(RayCluster().node(node_id))


@pytest.fixture
def make_config(three_nodes: list[str], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """A factory of our ``LLMConfig`` on all three nodes; the groups that are made for it are removed."""
    from serve_llm_hooks.ray import LLMConfig

    model = tmp_path / "model"
    model.mkdir()

    def make(*hooks: Any, nodes: int = 3, cls: Any = LLMConfig, **fields: Any) -> Any:
        given: dict[str, Any] = {
            "model_loading_config": {"model_id": "m", "model_source": str(model)},
            "accelerator_config": {"kind": "cpu"},
            "placement_group_config": {"bundles": [{"CPU": 1}] * nodes, "strategy": "STRICT_SPREAD"},
            **fields,
        }
        if cls is LLMConfig:
            given["hooks"] = list(hooks)
        return cls(**given)

    with no_groups_left():
        yield make


@contextmanager
def no_groups_left() -> Iterator[None]:
    """Remove the placement groups that were made inside the ``with``."""
    import ray
    from ray.util.placement_group import PlacementGroup, remove_placement_group

    before = set(ray.util.placement_group_table())
    try:
        yield
    finally:
        for group_id, row in ray.util.placement_group_table().items():
            if group_id not in before and row["state"] != "REMOVED":
                remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group_id))))


@pytest.fixture
def hidden_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Write a module that this process can import, and no node can."""
    folder = tmp_path / "only_here"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    written: list[str] = []

    def write(name: str, source: str) -> str:
        (folder / f"{name}.py").write_text(source)
        written.append(name)
        return name

    yield write
    for name in written:
        sys.modules.pop(name, None)
