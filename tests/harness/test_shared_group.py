"""A data-parallel rank, whose placement group is shared with others, on a fake cluster."""

from __future__ import annotations

import pytest

from serve_llm_hooks import CallbackCtx, NodeCtx, PlacementGroupError, hook
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakePlacementGroup, HarnessError, assert_ran_on


@hook("on_after_node_download")
def unpack(ctx: NodeCtx) -> None: ...


@hook("on_before_init")
def own_group(ctx: CallbackCtx) -> None:
    ctx.placement_group = FakePlacementGroup(["node-0"])


def test_a_rank_has_the_group_from_the_start_and_initializes_its_own_part() -> None:
    run = FakeCluster(nodes=4, own_bundles=[2, 3]).run(FakeLLMConfig("m", [unpack]))
    assert_ran_on(run, "unpack", node_count=2)
    assert [name for name, node in run.nodes.items() if node.tasks] == ["node-2", "node-3"]
    assert run.output is not None
    assert run.output.placement_group.node_ids == ("node-0", "node-1", "node-2", "node-3")


def test_a_rank_cannot_replace_the_group() -> None:
    with pytest.raises(PlacementGroupError, match="this replica's place is in bundles 0 of the group that it is in"):
        FakeCluster(nodes=1, own_bundles=[0]).run(FakeLLMConfig("m", [own_group]))


def test_bundles_that_the_group_does_not_have() -> None:
    with pytest.raises(HarnessError, match=r"own_bundles= is a list .* out of the group's 0 to 1, .*, not \[2\]"):
        FakeCluster(nodes=3, group_nodes=2, own_bundles=[2])
