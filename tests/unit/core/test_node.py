"""A node as messages write it, and where they take it from."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks import NodeInitializationError, hook, initialization
from serve_llm_hooks._core.node import Node
from tests.unit.stub import Config, StubCluster

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, NodeCtx

LONG = "1a2b3c4d" * 7
PLACE = {"address": "10.0.0.7", "hostname": "gpu-3"}


@pytest.mark.parametrize(
    ("node", "written"),
    [
        (Node(LONG, "10.0.0.7", "gpu-3"), "node 1a2b3c4d… (10.0.0.7, gpu-3)"),
        (Node(LONG, "10.0.0.7"), "node 1a2b3c4d… (10.0.0.7)"),
        (Node(LONG, "10.0.0.7", "10.0.0.7"), "node 1a2b3c4d… (10.0.0.7)"),
        (Node(LONG), "node 1a2b3c4d…"),
        (Node("node-0", "10.0.0.1", "node-0"), "node node-0 (10.0.0.1)"),
        (Node("n0"), "node n0"),
    ],
)
def test_as_it_is_written(node: Node, written: str) -> None:
    assert str(node) == written
    assert f"node {node.label}" == written


@hook("on_before_node_download")
def look(ctx: NodeCtx) -> None:
    ctx.custom_data["place"] = (ctx.node_id, ctx.address, ctx.hostname)


@hook("on_before_node_download")
def fail(ctx: NodeCtx) -> None:
    raise OSError("no disk")


def start(*hooks: object) -> CallbackCtx:
    """Start on one node with a long id, an address and a hostname; the context in the end."""
    begun: list[CallbackCtx] = []

    async def run() -> None:
        cluster = StubCluster(nodes=(LONG,), local_node_id=LONG, mirror=None, nodes_known={LONG: Node(LONG, **PLACE)})
        config = Config(hooks=list(hooks))
        async with initialization(config, cluster=cluster, on_begin=lambda run: begun.append(run.ctx)):
            pass

    with suppress(NodeInitializationError):  # it is in ctx.error
        asyncio.run(run())
    return begun[0]


def test_a_hook_its_result_and_the_trace_know_where_it_was() -> None:
    ctx = start(look)
    result = ctx.nodes[LONG]
    assert result.custom_data["place"] == (LONG, *PLACE.values())
    assert {"address": result.address, "hostname": result.hostname} == PLACE
    (event,) = ctx.trace
    assert {"address": event.address, "hostname": event.hostname} == PLACE
    assert " 1a2b3c4d… (10.0.0.7, gpu-3) " in str(ctx.trace)
    assert LONG not in str(ctx.trace)


def test_an_error_says_where_and_keeps_the_id(caplog: pytest.LogCaptureFixture) -> None:
    error = start(fail).error
    assert isinstance(error, NodeInitializationError)
    assert error.node_ids == (LONG,)
    (hooks_own,) = error.exceptions
    assert " on node 1a2b3c4d… (10.0.0.7, gpu-3): OSError: no disk" in str(hooks_own)
    assert hooks_own.__notes__[0].startswith("Traceback on node 1a2b3c4d…:\n")
    assert "\n  node 1a2b3c4d… (10.0.0.7, gpu-3): HookError: " in str(error)
    for text in (str(error), caplog.text):
        assert LONG not in text


def test_what_is_missing_in_the_replica_says_where(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(ImportError, match=r"on node 1a2b3c4d… \(10\.0\.0\.7, gpu-3\): "):
        start("no_such_module_at_all")
