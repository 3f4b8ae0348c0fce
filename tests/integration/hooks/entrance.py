"""The hooks that every entrance is tried with."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import CallbackCtx, NodeCtx, hook

if TYPE_CHECKING:
    from collections.abc import MutableMapping


@hook("on_before_init")
def before_init(ctx: CallbackCtx) -> None:
    assert ctx.custom_data == {}  # nothing is left over from another start
    assert ctx.placement_group is not None  # Serve makes it, and starts the replica in it
    ctx.custom_data["model"] = ctx.model_id


@hook("on_before_download")
def before_download(ctx: CallbackCtx) -> None:
    assert not ctx.nodes


@hook("on_before_node_download")
def on_node(ctx: NodeCtx) -> None:
    assert ctx.custom_data == {"model": ctx.model_id}
    ctx.custom_data["was_here"] = ctx.node_id


@hook("on_after_download")
def after_download(ctx: CallbackCtx) -> None:
    assert ctx.nodes
    assert all(node.custom_data["was_here"] == node_id for node_id, node in ctx.nodes.items())


@hook("on_after_placement_group")
def after_group(ctx: CallbackCtx) -> None:
    assert ctx.placement_group is not None


@hook("on_before_engine_init")
def before_engine(ctx: CallbackCtx) -> None:
    ctx.model_path = "/set/by/a/hook"
    ctx.extra_init_kwargs["seed"] = 7


@hook("on_after_engine_init")
async def after_engine(ctx: CallbackCtx) -> None:
    assert ctx.engine is not None
    await ctx.engine.check_health()


@hook("on_after_init")
def last(ctx: CallbackCtx) -> None: ...


@hook("on_failure")
def failed(ctx: CallbackCtx) -> None:
    if says := os.environ.get("FAILURE_SAYS"):
        Path(says).write_text(f"{ctx.model_id}: {ctx.error}")


@hook("on_before_init", model_id="nobody")
def of_another_model(ctx: CallbackCtx) -> None:
    raise AssertionError("not my model")


# Not for the whole module: named by those tests that want it.
@hook("on_before_init", model_id="replaced")
def replace_group(ctx: CallbackCtx) -> None:
    import ray

    ctx.placement_group = ray.util.placement_group([{"CPU": 1}])


@hook("on_before_download", model_id="replaced")
def replace_group_late(ctx: CallbackCtx) -> None:
    replace_group(ctx)


@hook("on_before_node_download", model_id="replaced")
def touch(ctx: NodeCtx) -> None:
    Path(os.environ["STUB_ENGINE_SAYS"]).write_text(ctx.node_id)


class KeepsALock:
    """As people keep a client or a connection, from the first point on."""

    def on_before_init(self, ctx: CallbackCtx) -> None:
        self.lock = threading.Lock()

    def on_before_engine_init(self, ctx: CallbackCtx) -> None:
        assert not self.lock.locked()


class KeepsALockThroughPhases:
    """The same as a phase function."""

    def __call__(self, phase: str, config: Any, data: MutableMapping[str, Any]) -> None:
        self.lock = threading.Lock()
