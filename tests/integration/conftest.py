"""``serve``: one start of one replica, on a fake cluster and on a real Ray of three nodes, for tests of both."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HOOK_POINTS, initialization
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakePlacementGroup
from tests.deployed import start_serve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serve_llm_hooks import CallbackCtx, HookEvent, InitializeNodeOutput

FOLDER = "/models/m"
ROOT_LEVEL = logging.getLogger().level


@pytest.fixture(autouse=True)
def log_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    """An engine that another test has started in this process sets the root logger and its handlers to ERROR."""
    logging.getLogger().setLevel(ROOT_LEVEL)
    caplog.handler.setLevel(logging.NOTSET)  # pytest has one for all tests


@pytest.fixture(scope="module")
def serve_url(three_nodes: list[str]) -> Iterator[str]:
    """Ray Serve on the three nodes; its address."""
    from ray import serve

    try:
        yield start_serve()
    finally:
        serve.shutdown()


class Served:
    """The result of a start, wherever it was."""

    def __init__(self, ctx: CallbackCtx, output: InitializeNodeOutput, config: Any) -> None:
        self.ctx = ctx
        self.output = output
        self.config = config

    @property
    def replica(self) -> list[HookEvent]:
        """Return what ran in the replica."""
        return [event for event in self.ctx.trace if not HOOK_POINTS[event.point].on_node]

    def on_node(self, node_id: str) -> list[HookEvent]:
        """Return what ran on a node."""
        return [event for event in self.ctx.trace if HOOK_POINTS[event.point].on_node and event.node_id == node_id]


class Serve:
    """Starts a replica of model ``m``, which is in a folder, on three nodes: ``serve(callback=…, hooks=…)``.

    A real ``LLMConfig`` does on both; ``FakeLLMConfig``, which has no ``callback_config``, is taken where it will do.
    """

    def __init__(self, make_config: Callable[..., Any] | None) -> None:
        self._make_config = make_config
        self.make_group: Callable[[int], Any] = fake_group if make_config is None else ray_group
        self.ctx: CallbackCtx | None = None

    def __call__(self, *, model_source: str = FOLDER, hooks: Any = (), **fields: Any) -> Served:
        if self._make_config is not None:
            loading = {"model_id": "m", "model_source": model_source}
            return self._serve_real(self._make_config(*hooks, model_loading_config=loading, **fields))
        config: Any
        if "callback_config" in fields:
            from serve_llm_hooks.ray import LLMConfig

            loading = {"model_source": model_source}
            config = LLMConfig(
                model_id="m",
                model_loading_config=loading,
                hooks=list(hooks),
                accelerator_config={"kind": "cpu"},
                **fields,
            )
        else:
            config = FakeLLMConfig("m", list(hooks), model_source=model_source, **fields)
        run = FakeCluster(in_group=False, real_sleep_limit_s=30).run(config, check=False)
        self.ctx = run.ctx
        if run.error is not None:
            raise run.error
        assert run.ctx is not None
        assert run.output is not None
        return Served(run.ctx, run.output, config)

    def _serve_real(self, config: Any) -> Served:
        from serve_llm_hooks.ray import RayCluster

        async def start() -> Served:
            async with initialization(
                config, cluster=RayCluster(node_grace_s=60), on_begin=lambda run: setattr(self, "ctx", run.ctx)
            ) as run:
                run.engine = "the engine"
            return Served(run.ctx, run.output, config)

        return asyncio.run(start())


def fake_group(nodes: int) -> FakePlacementGroup:
    """A placement group of one's own, over so many nodes."""
    return FakePlacementGroup([f"node-{index}" for index in range(nodes)])


def ray_group(nodes: int) -> Any:
    """The same on Ray."""
    import ray

    return ray.util.placement_group([{"CPU": 1}] * nodes, strategy="STRICT_SPREAD")


@pytest.fixture(params=["fake", pytest.param("ray", marks=pytest.mark.ray)])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Start a replica; each test that asks for this runs on a fake cluster and on a real one."""
    return Serve(None if request.param == "fake" else request.getfixturevalue("make_config"))
