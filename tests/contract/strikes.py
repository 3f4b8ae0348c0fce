"""Hooks that belong to no scenario: they make faults happen on a real node. Results leave them out. Kept light.

They get ``custom_data["slots"]``, the numbers of the nodes by id, as scenarios' own hooks do.
"""

from __future__ import annotations

import functools
import os
import signal
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HOOK_POINTS, HookRegistry

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, HookName, NodeCtx

strikes = HookRegistry()

FIRST = -(2**62)
LAST = 2**62


@strikes.hook("on_before_init", order=FIRST)
def number_nodes(ctx: CallbackCtx, *, slots: dict[str, int]) -> None:
    """Give hooks, which know ids, the numbers that scenarios use. On both wings."""
    ctx.custom_data["slots"] = slots


@strikes.hook("on_before_node_download", order=FIRST)
def set_environ(ctx: NodeCtx, *, variables: dict[int, dict[str, str]]) -> None:
    """Set environment variables of each node's own: where the downloader looks, and where it puts things."""
    os.environ.update(variables[ctx.custom_data["slots"][ctx.node_id]])


@strikes.hook("on_before_node_download", order=LAST)
def die_before_download(ctx: NodeCtx, *, slot: int, what: str) -> None:
    """On one node, be the end of the worker process, or of the raylet."""
    _die(ctx, slot, what)


@strikes.hook("on_after_node_download", order=LAST)
def die_after_download(ctx: NodeCtx, *, slot: int, what: str) -> None:
    """The same, later."""
    _die(ctx, slot, what)


@strikes.hook("on_after_node_engine_init", order=LAST)
def die_after_engine(ctx: NodeCtx, *, slot: int, what: str) -> None:
    """The same, once the engine is up."""
    _die(ctx, slot, what)


DEATHS: dict[str | None, Any] = {
    "on_before_node_download": die_before_download,
    "on_after_node_download": die_after_download,
    "on_after_node_engine_init": die_after_engine,
}


def _replica_dies_at(point: HookName) -> Any:
    def replica_dies(ctx: Any) -> None:
        os._exit(1)

    replica_dies.__name__ = replica_dies.__qualname__ = f"replica_dies_{point}"
    globals()[replica_dies.__name__] = replica_dies  # where other processes look for it
    return strikes.hook(point, order=LAST)(replica_dies)


replica_dies: dict[HookName, Any] = {
    row.name: _replica_dies_at(row.name)
    for row in HOOK_POINTS.values()
    if row.where == "replica" and row.during != "shutdown"
}
"""The end of the replica's process, by the point after whose hooks it comes."""


def failing(hook: Any, slot: int | None, error: Exception) -> Any:
    """The same hook, by its name, that fails instead of doing its work, on one node or everywhere."""

    @functools.wraps(hook)  # its marks too: it is a hook
    def fails(ctx: Any, **parameters: Any) -> Any:
        if slot is None or ctx.custom_data["slots"][ctx.node_id] == slot:
            raise error
        return hook(ctx, **parameters)

    return fails


def dying(hook: Any, process: str) -> Any:
    """The same hook, by its name, that ends one process of the engine instead of doing its work there."""

    @functools.wraps(hook)  # its marks too: it is a hook
    def dies(ctx: Any, **parameters: Any) -> Any:
        if ctx.process == process:
            os._exit(1)
        return hook(ctx, **parameters)

    return dies


def dying_on_node(hook: Any, slot: int) -> Any:
    """Return a hook of that name that ends its process on one node, unless another has died in it before."""

    @functools.wraps(hook)  # its marks too: it is a hook
    def dies(ctx: NodeCtx, **parameters: Any) -> Any:
        if ctx.custom_data["slots"][ctx.node_id] == slot and not ctx.unfinished:
            os._exit(1)
        return hook(ctx, **parameters)

    return dies


def _die(ctx: NodeCtx, slot: int, what: str) -> None:
    if ctx.custom_data["slots"][ctx.node_id] != slot:
        return
    if what == "raylet":
        os.kill(os.getppid(), signal.SIGKILL)  # as when a machine goes: the raylet and its workers at once
    os._exit(1)


@strikes.hook("on_before_download", order=LAST)
def signal_raylet(ctx: CallbackCtx, *, pid: int, number: int) -> None:
    """When the group is scheduled, and before anything is sent to its nodes, stop or kill one's raylet."""
    assert ctx.placement_group.wait(60)
    os.kill(pid, number)
