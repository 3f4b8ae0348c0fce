"""A hook at every point; at some of them it kills its own replica, once each.

``DYING_FOLDER`` in the environment is where that is noted, by model; ``DYING_AT`` lists the points. With
``DYING_GROUP`` the first hook makes a placement group of that name for the start.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from serve_llm_hooks import CallbackCtx, hook

if TYPE_CHECKING:
    from serve_llm_hooks import HookName


class Passed(NamedTuple):
    """A start has come to a point."""

    replica: int
    process: int
    point: str


def passed(folder: Path) -> list[Passed]:
    """What was noted of a model's starts."""
    return [Passed(*json.loads(line)) for line in (folder / "passed").read_text().splitlines()]


def _kill_once(ctx: Any, point: HookName) -> None:
    folder = Path(os.environ["DYING_FOLDER"], ctx.model_id)
    if point == "on_before_init":
        ctx.custom_data["replica"] = os.getpid()
        if name := os.environ.get("DYING_GROUP"):
            import ray

            ctx.placement_group = ray.util.placement_group([{"CPU": 0.01}], name=f"{name} {os.getpid()}")
    replica = os.getpid() if isinstance(ctx, CallbackCtx) else ctx.custom_data["replica"]
    with (folder / "passed").open("a") as file:
        file.write(json.dumps([replica, os.getpid(), point]) + "\n")
    struck = folder / point
    if point in os.environ.get("DYING_AT", "").split() and not struck.exists():
        struck.touch()
        os.kill(replica, signal.SIGKILL)
        time.sleep(3600)  # on a node, until Ray ends it


def _at(point: HookName) -> Any:
    def kill_once(ctx: Any) -> Any:
        _kill_once(ctx, point)
        return False if point == "on_before_init" and "on_custom_init" in os.environ["DYING_AT"] else None

    return hook(point)(kill_once)


before_init = _at("on_before_init")
custom_init = _at("on_custom_init")
before_download = _at("on_before_download")
before_node_download = _at("on_before_node_download")
after_node_download = _at("on_after_node_download")
after_download = _at("on_after_download")
after_placement_group = _at("on_after_placement_group")
before_engine_init = _at("on_before_engine_init")
after_engine_init = _at("on_after_engine_init")
after_init = _at("on_after_init")
