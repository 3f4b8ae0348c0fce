"""Four callbacks, each a class, on a fake cluster: no Ray, no GPU, under a second.

    python examples/callbacks.py

The same classes go into a real config: `LLMConfig(callback="my_company.callbacks.DownloadFromStore", ...)`.
"""

from __future__ import annotations

import time
from typing import Any

from serve_llm_hooks import CallbackCtx, NodeCtx, RayServeLLMCallback, Skip, skip
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakePlacementGroup, engine_fails

# 1. A custom download -------------------------------------------------------------------------------------------------


class DownloadFromStore(RayServeLLMCallback):
    """Every node fetches the model from a store of our own, and nothing else is downloaded."""

    def __init__(self, store: str) -> None:
        self.store = store

    def on_before_node_download(self, ctx: NodeCtx) -> Skip:
        ctx.model_path = self.fetch(ctx.model_id)
        return skip(f"fetched from {self.store}")

    def on_after_download(self, ctx: CallbackCtx) -> None:
        for node in ctx.nodes.values():
            print(f"  {node.node_id}: {node.path}, {node.skipped}")

    def fetch(self, model_id: str) -> str:
        return f"/scratch/{model_id}"  # here your client would copy the files


def custom_download() -> None:
    config = FakeLLMConfig(
        "llama-3-8b", callback=DownloadFromStore, callback_kwargs={"store": "store.example.com"}, hooks=[]
    )
    run = FakeCluster(nodes=2).run(config)
    assert run.engine is not None
    print(f"  the engine loads {run.engine.model_path}")


# 2. Metrics, with state -----------------------------------------------------------------------------------------------

METRICS: dict[str, float] = {"starts": 0, "failures": 0, "seconds": 0.0}
"""Stands for your metrics client: it outlives a start."""


class Metrics(RayServeLLMCallback):
    """One object from the first point to the last: what is kept on `self` early is there late."""

    def on_before_init(self, ctx: CallbackCtx) -> None:
        self.started_s = time.monotonic()
        METRICS["starts"] += 1

    def on_after_init(self, ctx: CallbackCtx) -> None:
        self.finish("is up")

    def on_failure(self, ctx: CallbackCtx) -> None:
        METRICS["failures"] += 1
        self.finish(f"failed: {ctx.error}")

    def finish(self, how: str) -> None:
        METRICS["seconds"] += time.monotonic() - self.started_s
        print(f"  {how}")


def metrics() -> None:
    config = FakeLLMConfig("llama-3-8b", callback=Metrics, hooks=[])
    FakeCluster(nodes=2, download_s=20).run(config)
    FakeCluster(faults=[engine_fails("CUDA out of memory")]).run(config, check=False)
    print(f"  {METRICS['starts']} starts, {METRICS['failures']} failed")


# 3. A custom placement group ------------------------------------------------------------------------------------------


def make_group() -> Any:
    """With Ray: `ray.util.placement_group([{"CPU": 1, "GPU": 1}] * 2, strategy="STRICT_SPREAD")`."""
    return FakePlacementGroup(["node-1", "node-3"])


class OwnPlacementGroup(RayServeLLMCallback):
    """The engine's workers go where we say; the downloads follow."""

    def on_before_init(self, ctx: CallbackCtx) -> None:
        ctx.placement_group = make_group()

    def on_before_engine_init(self, ctx: CallbackCtx) -> None:
        print(f"  initialized: {', '.join(ctx.nodes)}")


def custom_placement_group() -> None:
    FakeCluster(nodes=4).run(FakeLLMConfig("llama-3-8b", callback=OwnPlacementGroup, hooks=[]))


# 4. The defaults skipped ----------------------------------------------------------------------------------------------


class BakedImage(RayServeLLMCallback):
    """All that the defaults would do is in the image already: only the engine is started."""

    async def on_before_init(self, ctx: CallbackCtx) -> Skip:
        return skip("the image has the model")

    async def on_custom_init(self, ctx: CallbackCtx) -> None:
        ctx.model_path = "/opt/model"
        ctx.extra_init_kwargs["enforce_eager"] = True


def defaults_skipped() -> None:
    run = FakeCluster(nodes=2).run(FakeLLMConfig("llama-3-8b", callback=BakedImage, hooks=[]))
    assert run.engine is not None
    touched = sum(node.tasks for node in run.nodes.values())
    print(f"  the engine loads {run.engine.model_path} with {run.engine.kwargs}; {touched} nodes touched")


def main() -> None:
    for example in (custom_download, metrics, custom_placement_group, defaults_skipped):
        print(f"{example.__name__.replace('_', ' ')}:")
        example()


if __name__ == "__main__":
    main()
