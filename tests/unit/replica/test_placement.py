"""Placement groups: who acquires, replaces and gives back which."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    HookError,
    PlacementGroupError,
    hook,
    initialization,
)
from tests.unit.stub import Config, Failed, StubCluster, cancel, start


def test_a_group_that_cannot_be_had() -> None:
    async def acquire() -> None:
        raise PlacementGroupError("8 GPUs asked, 4 there")

    failed = Failed()
    with pytest.raises(PlacementGroupError, match="8 GPUs asked, 4 there"):
        start(failed.hook(), cluster=StubCluster(acquire=acquire))
    assert isinstance(failed.error, PlacementGroupError)


def test_a_start_that_is_cancelled_does_not_go_on_acquiring_its_group() -> None:
    cancelled: list[bool] = []

    async def acquire() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def body() -> None:
        async with initialization(Config(), cluster=StubCluster(acquire=acquire)):
            raise AssertionError

    cancel(body)
    assert cancelled == [True]


@hook("on_before_engine_init")
def breaks(ctx: CallbackCtx) -> None:
    raise OSError("disk full")


def test_the_group_of_a_failed_start_is_given_back_after_the_clean_up() -> None:
    cluster = StubCluster()

    @hook("on_failure")
    def clean_up(ctx: CallbackCtx) -> None:
        cluster.calls.append("clean up")

    with pytest.raises(HookError, match="disk full"):
        start(breaks, clean_up, cluster=cluster)
    assert cluster.calls[-2:] == ["clean up", "remove"]


def test_the_group_that_the_replica_is_in_is_not_ours_to_give_back() -> None:
    cluster = StubCluster(placement_group=("n0",))
    with pytest.raises(HookError, match="disk full"):
        start(breaks, cluster=cluster)
    assert "remove" not in cluster.calls


@pytest.mark.parametrize("point", ["on_before_init", "on_before_download", "on_after_placement_group"])
def test_none_is_the_group_that_the_replica_is_in(point: Any) -> None:
    """Older callbacks return one dict for all, with ``placement_group=None`` in it."""

    @hook(point)
    def none(ctx: CallbackCtx) -> None:
        ctx.placement_group = None

    cluster = StubCluster(placement_group=("n0",))
    with pytest.raises(HookError, match="disk full"):
        start(none, breaks, cluster=cluster)
    assert not {"acquire", "remove"} & set(cluster.calls)

    cluster = StubCluster()
    assert start(none, cluster=cluster).output.placement_group == cluster.nodes
    assert cluster.calls.count("acquire") == 1


@pytest.mark.parametrize("point", ["on_before_download", "on_after_download", "on_after_placement_group"])
def test_a_group_that_we_acquired_and_a_hook_replaced_is_given_back_before_its_own_is_waited_for(point: Any) -> None:
    class Small(StubCluster):
        async def node_ids(self, placement_group: Any, own_bundles: Any = None) -> Any:
            self.calls.append(f"wait for {'ours' if placement_group is self.nodes else 'the hook’s'}")
            return await super().node_ids(placement_group, own_bundles)

    @hook(point)
    def replace(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n0",)

    cluster = Small()
    assert start(replace, cluster=cluster).output.placement_group == ("n0",)
    assert cluster.calls.count("remove") == 1
    assert cluster.calls.index("remove") < cluster.calls.index("wait for the hook’s")


def test_a_group_that_cannot_be_given_back_is_logged_and_the_first_error_is_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck(StubCluster):
        async def remove_placement_group(self, placement_group: Any) -> None:
            raise ConnectionError("no GCS")

    with pytest.raises(HookError, match="disk full"):
        start(breaks, cluster=Stuck())
    assert caplog.messages[-1] == "model 'm': its placement group may be left: ConnectionError: no GCS"


@pytest.mark.parametrize("skip_defaults", [True, False])
def test_where_no_node_is_touched_a_group_that_cannot_be_had_is_told_before_the_engine(skip_defaults: bool) -> None:
    class Full(StubCluster):
        async def node_ids(self, placement_group: Any, own_bundles: Any = None) -> Any:
            raise PlacementGroupError("8 GPUs asked, 4 there")

    def veto(ctx: CallbackCtx) -> bool:
        return False

    cluster = Full()
    hook("on_before_init" if skip_defaults else "on_before_download")(veto)
    with pytest.raises(PlacementGroupError, match="8 GPUs asked, 4 there"):
        start(veto, cluster=cluster)
    assert cluster.calls == ["acquire", "remove"]


def test_a_group_of_a_hooks_own_is_not_looked_at_where_no_node_is_touched() -> None:
    class OfNobody(StubCluster):
        async def node_ids(self, placement_group: Any, own_bundles: Any = None) -> Any:
            raise AssertionError

    @hook("on_before_init")
    def skip_defaults(ctx: CallbackCtx) -> bool:
        ctx.placement_group = "a group that is none of ours"
        return False

    assert start(skip_defaults, cluster=OfNobody()).output.placement_group == "a group that is none of ours"


def test_a_group_that_is_replaced_too_late() -> None:
    @hook("on_before_engine_init")
    def replace(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n8",)

    with pytest.raises(PlacementGroupError) as caught:
        start(replace)
    assert str(caught.value) == (
        "model 'm': ctx.placement_group was replaced at on_before_engine_init, too late for its nodes to be "
        "initialized; replace it at on_after_placement_group or before"
    )
