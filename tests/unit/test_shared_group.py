"""Data-parallel ranks share one placement group: each initializes the nodes of its own bundles, none replaces it."""

from __future__ import annotations

import pytest

from serve_llm_hooks import CallbackCtx, NodeCtx, PlacementGroupError, hook

from .stub import StubCluster, start


@hook("on_before_node_download")
def anything(ctx: NodeCtx) -> None: ...


@pytest.mark.parametrize("in_a_group", [True, False])
def test_a_rank_touches_the_nodes_of_its_own_bundles_in_their_order(in_a_group: bool) -> None:
    cluster = StubCluster(own_bundles=(2, 0), placement_group=("n0", "n1", "n2") if in_a_group else None)
    assert list(start(anything, cluster=cluster).ctx.nodes) == ["n2", "n0"]


@pytest.mark.parametrize("point", ["on_before_init", "on_after_placement_group"])
@pytest.mark.parametrize("in_a_group", [True, False])
def test_a_rank_cannot_replace_the_group(point: str, in_a_group: bool) -> None:
    def replace(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n8",)

    hook(point)(replace)  # type: ignore[call-overload]  # any of the two
    cluster = StubCluster(own_bundles=(0, 1), placement_group=("n0", "n1") if in_a_group else None)
    with pytest.raises(PlacementGroupError) as caught:
        start(replace, cluster=cluster)
    assert str(caught.value) == (
        "model 'm': a hook replaced ctx.placement_group, but this replica's place is in bundles 0, 1 of the group that "
        "it is in, as a data-parallel rank's is. Size and place that group in the config (placement_group_config)."
    )
