"""Ready-made hooks on a real Ray of three nodes; those for the engine are in ``test_deployment``."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import CallbackCtx, NodeCtx, NodeInitializationError, hook, initialization
from serve_llm_hooks.recipes import CheckNode, Notify
from tests.conftest import written
from tests.unit.recipes.conftest import Webhook

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.ray


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    """A webhook that is there."""
    webhook = Webhook()
    yield webhook
    webhook.close()


@hook("on_before_download")
def name_the_full(ctx: CallbackCtx, *, full: str) -> None:
    ctx.custom_data["full"] = full


@hook("on_before_node_download", order=-1)
def fill(ctx: NodeCtx) -> None:
    """Make one node's disk look full: all nodes are one machine here."""
    import psutil

    if ctx.node_id == ctx.custom_data["full"]:
        vars(psutil)["disk_usage"] = lambda path: SimpleNamespace(free=3 * 2**30)


def test_one_bad_node_of_three_is_refused_and_told_once(
    make_config: Callable[..., Any], three_nodes: list[str], webhook: Webhook
) -> None:
    from serve_llm_hooks.ray import RayCluster

    full = three_nodes[1]
    config = make_config(
        {"hook": name_the_full, "kwargs": {"full": full}},
        fill,
        {"hook": CheckNode, "kwargs": {"min_free_gib": 3.5, "path": "/"}},
        {"hook": Notify, "kwargs": {"url": webhook.url}},
        model_loading_config={"model_id": f"told-{full[:8]}", "model_source": "/nowhere"},
    )

    async def start() -> None:
        async with initialization(config, cluster=RayCluster()):
            pass

    for _ in range(2):  # Serve tries again
        with pytest.raises(NodeInitializationError, match=r"3.0 GiB free for /, and not 3.5") as caught:
            asyncio.run(start())
        assert caught.value.node_ids == (full,)
        assert written(full) in str(caught.value)
    (sent,) = webhook.sent
    assert (sent["event"], sent["nodes"]) == ("failure", [full])
