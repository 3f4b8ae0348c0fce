"""Where the bundles of a placement group land on a fake cluster."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import PlacementGroupError
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakePlacementGroup, HarnessError
from serve_llm_hooks_testing._simulation.placement import STRATEGIES, place

FOUR_GPUS = [{"CPU": 8, "GPU": 2}, {"CPU": 8}, {"CPU": 8, "GPU": 1}, {"CPU": 8, "GPU": 1}]


def placed(nodes: Any, workers: int = 1, *, cpu: bool = False, in_group: bool = True, **group: Any) -> tuple[str, ...]:
    """The nodes of a start's default group."""
    config = FakeLLMConfig(
        "m",
        [],
        engine_kwargs={"tensor_parallel_size": workers},
        placement_group_config=group or None,
        accelerator_config={"kind": "cpu"} if cpu else None,
    )
    output = FakeCluster(nodes, in_group=in_group).run(config).output
    assert output is not None
    node_ids: tuple[str, ...] = output.placement_group.node_ids
    return node_ids


EACH: dict[str, Any] = {"bundle_per_worker": {"GPU": 1}}


def test_a_gpu_for_each_worker_on_few_nodes() -> None:
    assert placed(FOUR_GPUS, 2) == ("node-0", "node-0")
    assert placed(FOUR_GPUS, 3) == ("node-0", "node-0", "node-2")
    assert placed(FOUR_GPUS, 2, **EACH, strategy="STRICT_SPREAD") == ("node-0", "node-2")
    assert placed(FOUR_GPUS, 4, **EACH, strategy="SPREAD") == ("node-0", "node-2", "node-3", "node-0")
    assert placed(FOUR_GPUS, 2, **EACH, strategy="STRICT_PACK") == ("node-0", "node-0")


@pytest.mark.parametrize(
    ("workers", "strategy"), [(5, "PACK"), (3, "STRICT_PACK"), (4, "STRICT_SPREAD"), (5, "SPREAD")]
)
def test_what_does_not_fit_says_what_was_asked_for(workers: int, strategy: str) -> None:
    with pytest.raises(PlacementGroupError, match=rf"asked for {strategy} of .*'GPU': 1.*node-1 has {{'CPU': 8}}"):
        placed(FOUR_GPUS, workers, **EACH, strategy=strategy)


def test_nodes_without_declared_resources_have_enough() -> None:
    assert placed(3, 2, **EACH, strategy="STRICT_PACK") == ("node-0", "node-0")
    assert placed(3, 2, **EACH, strategy="PACK") == ("node-0", "node-0")
    assert placed(3, 3, **EACH, strategy="STRICT_SPREAD") == ("node-0", "node-1", "node-2")
    assert placed(3, 3, **EACH, strategy="SPREAD") == ("node-0", "node-1", "node-2")
    with pytest.raises(PlacementGroupError, match="there are 3 nodes"):
        placed(3, 4, **EACH, strategy="STRICT_SPREAD")


def test_without_bundles_the_group_spans_the_nodes() -> None:
    assert placed(3) == ("node-0", "node-1", "node-2")


def test_the_replica_is_in_the_first_bundle() -> None:
    assert placed([{"CPU": 2}, {"CPU": 2}], 2, cpu=True) == ("node-0", "node-1")  # its own CPU is there too
    assert placed([{"CPU": 2}, {"CPU": 2}], 2, cpu=True, in_group=False) == ("node-0", "node-0")
    with pytest.raises(HarnessError, match="would place the replica's own bundle on node-1"):
        placed([{"CPU": 8}, {"CPU": 8, "GPU": 1}])


def test_a_real_configs_accelerator_is_in_its_bundles() -> None:
    config = FakeLLMConfig("m", [], accelerator_type="L4")
    nodes = [{"CPU": 8, "GPU": 1, "accelerator_type:L4": 1}]
    assert FakeCluster(nodes).run(config).error is None
    with pytest.raises(PlacementGroupError, match="accelerator_type:L4"):
        FakeCluster([{"CPU": 8, "GPU": 1}]).run(config)


def test_a_ranks_own_bundles_are_in_the_configs_group() -> None:
    config = FakeLLMConfig("m", [], placement_group_config={"bundles": [{"CPU": 1}] * 2, "strategy": "STRICT_SPREAD"})
    run = FakeCluster(2, own_bundles=[1]).run(config)
    assert [name for name, node in run.nodes.items() if node.tasks] == ["node-1"]
    with pytest.raises(HarnessError, match="0 to 1"):
        FakeCluster(3, own_bundles=[2]).run(config)


def test_a_group_of_a_hooks_own() -> None:
    group = FakePlacementGroup(["node-0", "node-2"], bundles=[{"GPU": 1}, {"CPU": 1}], strategy="SPREAD")
    assert group.bundle_count == 2
    assert group.bundle_specs == [{"GPU": 1}, {"CPU": 1}]
    assert group.wait(10)
    assert not group.is_empty
    assert group == group
    assert group != FakePlacementGroup(["node-0", "node-2"])
    assert len(group.id.hex()) == 32
    assert repr(group) == "FakePlacementGroup(['node-0', 'node-2'])"


RESOURCES = st.dictionaries(st.sampled_from(["CPU", "GPU", "TPU"]), st.integers(1, 4))


@given(st.lists(RESOURCES, min_size=1, max_size=5), st.sampled_from(STRATEGIES), st.lists(RESOURCES, max_size=4))
def test_no_node_is_given_more_than_it_has(bundles: Any, strategy: str, nodes: Any) -> None:
    has = {f"node-{index}": node for index, node in enumerate(nodes)}
    node_ids = place(bundles, strategy, has)
    assert len(node_ids) in (0, len(bundles))
    for node_id in set(node_ids):
        for name in ("CPU", "GPU", "TPU"):
            there = [bundle for bundle, where in zip(bundles, node_ids, strict=True) if where == node_id]
            assert sum(bundle.get(name, 0) for bundle in there) <= has[node_id].get(name, 0)
    if node_ids and strategy == "STRICT_PACK":
        assert len(set(node_ids)) == 1
    if node_ids and strategy == "STRICT_SPREAD":
        assert len(set(node_ids)) == len(bundles)
