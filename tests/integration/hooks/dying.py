"""A hook at every point; at some of them it kills its own replica, once each.

``DYING_FOLDER`` in the environment is where that is noted, by model; ``DYING_AT`` lists the points. Beside hook points
these are ``pending`` (while the start waits for a placement group that there is no room for), ``elsewhere`` (while
hooks run on two nodes, from the one that is not the replica's) and ``engine`` (while :class:`DyingEngine` starts). With
``DYING_LEAVES`` the first hook makes a placement group and an actor of that name for the start.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from serve_llm_hooks import CallbackCtx, NodeCtx, hook
from tests.stub_engine import StubEngine

if TYPE_CHECKING:
    from serve_llm_hooks import HookName

ENGINE = "tests.integration.hooks.dying.DyingEngine"
NO_ROOM = {"slot-2": 600.0}  # of 1000, where somebody has taken as much
_kept: list[Any] = []


class Passed(NamedTuple):
    """A start has come to a point."""

    replica: int
    process: int
    node_id: str
    point: str
    at_s: float


def passed(folder: Path) -> list[Passed]:
    """Return what was noted of a model's starts."""
    return [Passed(*json.loads(line)) for line in (folder / "passed").read_text().splitlines()]


def strike(folder: Path, death: str) -> bool:
    """Return True if this death is still to be died; note it, with its time."""
    try:
        with (folder / death).open("x") as file:
            file.write(str(time.time()))
    except FileExistsError:
        return False
    return True


def kill(replica: int) -> None:
    """Kill a replica, if it is still there."""
    try:
        os.kill(replica, signal.SIGKILL)
    except ProcessLookupError:
        return
    time.sleep(3600)  # on a node, until Ray ends it


def _folder(model_id: str) -> Path:
    return Path(os.environ["DYING_FOLDER"], model_id)


def _dies_at(death: str) -> bool:
    return death in os.environ["DYING_AT"].split()


def _pass(ctx: Any, point: HookName) -> None:
    """Note that a start is here, and be its end, if this is where."""
    import ray

    folder = _folder(ctx.model_id)
    replica = os.getpid() if isinstance(ctx, CallbackCtx) else ctx.custom_data["replica"]
    node_id = ray.get_runtime_context().get_node_id()
    with (folder / "passed").open("a") as file:
        file.write(json.dumps(Passed(replica, os.getpid(), node_id, point, time.time())) + "\n")
    if _dies_at(point) and strike(folder, point):
        kill(replica)


def _at(point: HookName) -> Any:
    def kill_once(ctx: Any) -> None:
        _pass(ctx, point)

    return hook(point)(kill_once)


@hook("on_before_init")
def before_init(ctx: CallbackCtx) -> bool | None:
    import ray

    assert ctx.custom_data == {}  # nothing is left over from another start
    ctx.custom_data["replica"] = os.getpid()
    if name := os.environ.get("DYING_LEAVES"):
        name = f"{name} {os.getpid()}"
        ctx.placement_group = ray.util.placement_group([{"CPU": 0.01}], name=name)
        left: Any = ray.remote(num_cpus=0)(Left)
        _kept.append(left.options(name=name).remote())
    if _dies_at("pending") and not (_folder(ctx.model_id) / "pending").exists():
        ctx.placement_group = ray.util.placement_group([NO_ROOM])
    _pass(ctx, "on_before_init")
    return False if _dies_at("on_custom_init") else None


class Left:
    """An actor that a hook makes."""


custom_init = _at("on_custom_init")


@hook("on_before_download")
async def before_download(ctx: CallbackCtx) -> None:
    _pass(ctx, "on_before_download")
    if _dies_at("pending") and strike(_folder(ctx.model_id), "pending"):
        # The next thing that this loop does is to wait for the group.
        asyncio.get_running_loop().call_later(1, kill, os.getpid())


@hook("on_before_node_download")
def before_node_download(ctx: NodeCtx) -> None:
    _pass(ctx, "on_before_node_download")
    folder, replica = _folder(ctx.model_id), ctx.custom_data["replica"]
    if not _dies_at("elsewhere") or (folder / "elsewhere").exists():
        return
    if ctx.is_local:
        time.sleep(3600)  # until Ray ends it
    while not {True, False} <= {start.node_id == ctx.node_id for start in passed(folder) if _on_node(start, replica)}:
        time.sleep(0.05)
    if strike(folder, "elsewhere"):
        kill(replica)


def _on_node(start: Passed, replica: int) -> bool:
    return start.replica == replica and start.process != replica


after_node_download = _at("on_after_node_download")
after_download = _at("on_after_download")
after_placement_group = _at("on_after_placement_group")
before_engine_init = _at("on_before_engine_init")
after_engine_init = _at("on_after_engine_init")
after_init = _at("on_after_init")


class DyingEngine(StubEngine):
    """Whose start may be the end of its replica."""

    async def start(self) -> None:
        """Come half-way, or to the end."""
        await super().start()
        if _dies_at("engine") and strike(_folder(self.llm_config.model_id), "engine"):
            kill(os.getpid())


class Remembers:
    """A callback as a class: what it keeps on ``self`` is of this start."""

    def __init__(self) -> None:
        self.points: list[str] = []

    def on_before_init(self, ctx: CallbackCtx) -> None:
        """The first."""
        assert self.points == []
        self.points.append("on_before_init")

    def on_after_init(self, ctx: CallbackCtx) -> None:
        """The last."""
        assert self.points == ["on_before_init"]
