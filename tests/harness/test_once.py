"""Hooks that run once per node, on a fake cluster: its runs are replicas, and starts of replicas, of one rollout."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, HarnessError, node_process_dies, replica_dies
from serve_llm_hooks_testing.run import recent

if TYPE_CHECKING:
    from serve_llm_hooks import NodeCtx
    from serve_llm_hooks_testing import FakeRun

PROCESSES = pytest.mark.parametrize("processes", [False, "nodes", True])
hooks = HookRegistry()


@hooks.hook("on_before_node_download", once_per_node=True)
async def fetch(ctx: NodeCtx) -> None:
    await asyncio.sleep(6)
    ctx.custom_data |= {"unfinished": ctx.unfinished, "by": os.getpid()}


by_key = HookRegistry()


@by_key.hook("on_after_node_download", once_per_node="cache-{model_id}")
def fill(ctx: NodeCtx) -> None:
    ctx.custom_data["filled"] = True


def outcomes(run: FakeRun, node_id: str = "node-0") -> list[tuple[str, str]]:
    return [(event.name, event.outcome) for event in run.trace if event.node_id == node_id]


def config(*given: Any, model_id: str = "m", **fields: Any) -> FakeLLMConfig:
    return FakeLLMConfig(model_id, hooks=list(given), **fields)


@PROCESSES
def test_runs_share_what_is_on_the_nodes(processes: Any) -> None:
    cluster = FakeCluster(nodes=2, download_s=0, engine_start_s=0, processes=processes)
    first, second = cluster.run(config(hooks)), cluster.run(config(hooks))
    for node_id in cluster.node_names:
        assert outcomes(first, node_id) == [("fetch", "ok")]
        assert outcomes(second, node_id) == [("fetch", "replayed")]
        (event,) = (event for event in first.trace if event.node_id == node_id)
        (taken,) = (event for event in second.trace if event.node_id == node_id)
        assert taken.detail == f"done by process {event.process_id}"
    assert (first.elapsed_s, second.elapsed_s) == (6, 0)
    nodes = [run.ctx.nodes["node-1"].custom_data for run in (first, second) if run.ctx is not None]
    assert nodes[0] == nodes[1]


def test_a_new_rollout_and_what_a_key_names() -> None:
    cluster = FakeCluster(nodes=1)
    told = []
    for model_id in ("m", "m", "other"):
        told += outcomes(cluster.run(config(hooks, by_key, model_id=model_id)))
        cluster.next_rollout()
    assert [outcome for name, outcome in told if name == "fetch"] == ["ok", "ok", "ok"]
    assert [outcome for name, outcome in told if name == "fill"] == ["ok", "replayed", "ok"]


def test_another_cluster_has_disks_of_its_own() -> None:
    for _ in range(2):
        assert outcomes(FakeCluster(nodes=1).run(config(by_key))) == [("fill", "ok")]


def test_the_disks_are_gone_with_the_cluster() -> None:
    cluster = FakeCluster(nodes=1)
    assert not os.path.exists(cluster.disks)
    cluster.run(config(by_key))
    disks = cluster.disks
    assert os.path.isdir(disks)
    del cluster
    recent.clear()  # the report of a test that fails shows its last runs
    gc.collect()
    assert not os.path.exists(disks)


def test_the_variable_names_a_folder_on_the_clusters_own_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_LLM_HOOKS_NODE_DIR", str(tmp_path / "nodes"))
    cluster = FakeCluster(nodes=2)
    cluster.run(config(by_key))
    records = Path(cluster.disks, str(tmp_path / "nodes").lstrip("/")).rglob("*.done")
    assert sorted(file.parent.name for file in records) == ["node-0", "node-1"]
    assert outcomes(cluster.run(config(by_key))) == [("fill", "replayed")]
    assert outcomes(FakeCluster(nodes=2).run(config(by_key))) == [("fill", "ok")]
    assert not any(tmp_path.iterdir())


def test_a_restart_takes_what_the_start_before_it_has_done() -> None:
    faults = [replica_dies(at="on_before_engine_init")]
    run = FakeCluster(nodes=1, faults=faults).run(config(hooks))
    assert outcomes(run.earlier_starts[0]) == [("fetch", "ok")]
    assert outcomes(run) == [("fetch", "replayed")]


@PROCESSES
def test_a_process_that_is_killed_holds_nothing(processes: Any) -> None:
    faults = [node_process_dies("node-1", in_hook="fetch")]
    cluster = FakeCluster(nodes=2, faults=faults, processes=processes)
    first = cluster.run(config(hooks), check=False)
    assert list(first.error.node_ids) == ["node-1"]  # type: ignore[union-attr]  # a NodeInitializationError
    second = cluster.run(config(hooks))
    assert second.ctx is not None
    assert [node.custom_data["unfinished"] for node in second.ctx.nodes.values()] == [False, True]
    assert outcomes(second, "node-0") == [("fetch", "replayed")]
    assert outcomes(second, "node-1") == [("fetch", "ok")]


def test_replicas_that_start_at_the_same_time() -> None:
    cluster = FakeCluster(nodes=1)

    async def main() -> list[FakeRun]:
        return await asyncio.gather(*(cluster.arun(config(hooks)) for _ in range(3)))

    runs = asyncio.run(main())
    assert sorted(outcomes(run)[0][1] for run in runs) == ["ok", "replayed", "replayed"]


def test_a_fault_on_a_hook_that_never_comes_to_run() -> None:
    cluster = FakeCluster(nodes=1, faults=[node_process_dies("node-0", in_hook="fetches")])
    with pytest.warns(UserWarning, match="node_process_dies"):
        cluster.run(config(hooks))


def test_one_death_for_a_node() -> None:
    faults = [node_process_dies("node-0", in_hook=name) for name in ("fetch", "fill")]
    with pytest.raises(HarnessError, match="twice for one node"):
        FakeCluster(nodes=1, faults=faults)


def test_in_the_background() -> None:
    registry = HookRegistry()

    @registry.hook("on_before_node_download", until="on_after_engine_init", once_per_node=True)
    async def adapters(ctx: NodeCtx) -> None:
        await asyncio.sleep(25)
        ctx.custom_data["adapters"] = ["tone"]

    cluster = FakeCluster(nodes=1)
    for outcome in ("ok", "replayed"):
        run = cluster.run(config(registry))
        assert outcomes(run) == [("adapters", outcome)]
        assert run.ctx is not None
        assert run.ctx.nodes["node-0"].custom_data == {"adapters": ["tone"]}


def test_once_the_engine_is_up() -> None:
    registry = HookRegistry()

    @registry.hook("on_after_node_engine_init", once_per_node=True)
    def keep(ctx: NodeCtx) -> None:
        ctx.custom_data["kept"] = True

    cluster = FakeCluster(nodes=1)
    for outcome in ("ok", "replayed"):
        run = cluster.run(config(registry))
        assert outcomes(run) == [("keep", outcome)]
        assert run.ctx is not None
        assert run.ctx.nodes["node-0"].custom_data == {"kept": True}
