"""Data-parallel ranks share one placement group: each initializes the nodes of its own bundles, none replaces it."""

from __future__ import annotations

from typing import Any

import pytest

from serve_llm_hooks import CallbackCtx, NodeCtx, PlacementGroupError, hook
from tests.unit.stub import StubCluster, start


@hook("on_before_node_download")
def anything(ctx: NodeCtx) -> None: ...


@pytest.mark.parametrize("in_a_group", [True, False])
def test_a_rank_touches_the_nodes_of_its_own_bundles_in_their_order(in_a_group: bool) -> None:
    cluster = StubCluster(own_bundles=(2, 0), placement_group=("n0", "n1", "n2") if in_a_group else None)
    assert list(start(anything, cluster=cluster).ctx.nodes) == ["n2", "n0"]


@pytest.mark.parametrize("point", ["on_before_init", "on_before_download", "on_after_placement_group"])
@pytest.mark.parametrize("in_a_group", [True, False])
def test_a_rank_cannot_replace_the_group(point: str, in_a_group: bool) -> None:
    def replace(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n8",)

    hook(point)(replace)  # type: ignore[call-overload]  # any of the three
    cluster = StubCluster(own_bundles=(0, 1), placement_group=("n0", "n1") if in_a_group else None)
    with pytest.raises(PlacementGroupError) as caught:
        start(replace, cluster=cluster)
    assert str(caught.value) == (
        "model 'm': a hook replaced ctx.placement_group, but this replica's place is in bundles 0, 1 of the group that "
        "it is in, as a data-parallel rank's is. Size and place that group in the config (placement_group_config)."
    )
    assert not {"run n8", "download n8 MODEL_AND_TOKENIZER"} & set(cluster.calls)


class Handle:
    """A group as Ray has it: another object each time it is asked for, and equal."""

    def __init__(self) -> None:
        self.id = "the group"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other.id == self.id


def test_another_handle_of_the_same_group_replaces_nothing() -> None:
    class OneGroup(StubCluster):
        async def node_ids(self, placement_group: Any, own_bundles: Any = None) -> Any:
            return ["n0"]

    @hook("on_after_placement_group")
    def look_again(ctx: CallbackCtx) -> None:
        ctx.placement_group = Handle()

    @hook("on_before_engine_init")
    def and_again(ctx: CallbackCtx) -> None:
        ctx.placement_group = Handle()

    given: Any = Handle()
    cluster = OneGroup(own_bundles=(0,), placement_group=given)
    assert start(look_again, and_again, cluster=cluster).output.placement_group == given
