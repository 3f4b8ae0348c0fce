"""Server classes of people's own, and what of them cannot be hooked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve_llm_hooks import CallbackCtx, HookError, HookLoadError, hook
from tests.conftest import require_engine

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _engine() -> None:
    require_engine()


@hook("on_before_init")
def never(ctx: CallbackCtx) -> None:
    raise AssertionError


class ByItself:
    """Starts its engine in its constructor."""

    async def __init__(self, llm_config: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        self.engine = "up"


class ByStart:
    """Starts its engine in ``start()``, as Ray's does."""

    async def __init__(self, llm_config: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        self._llm_config = llm_config
        await self.start()

    async def start(self) -> None:
        self.engine = "up"


def construct(server_cls: Any, ref: Any = never) -> Any:
    """As Serve makes it."""
    from serve_llm_hooks.ray import LLMConfig

    config = LLMConfig(model_id="m", hooks=[ref], accelerator_config={"kind": "cpu"})

    async def make() -> Any:
        server = server_cls.__new__(server_cls)
        await server.__init__(config)
        return server

    return asyncio.run(make())


def test_a_constructor_that_starts_its_engine_by_itself_is_told() -> None:
    from serve_llm_hooks.ray import hooked_server

    class Eager(ByItself):
        async def start(self) -> None: ...

    with pytest.raises(HookLoadError, match=r"Eager starts its engine in its constructor and never calls start\(\)"):
        construct(hooked_server(Eager))


def test_so_is_that_of_a_subclass_of_rays() -> None:
    from ray.serve.llm.deployment import LLMServer

    from serve_llm_hooks.ray import hooked_server

    class Eager(ByItself, LLMServer): ...

    with pytest.raises(HookLoadError, match=r"let the constructor `await self\.start\(\)`, as Ray's LLMServer does"):
        construct(hooked_server(Eager))


def test_one_based_on_ours_is_hooked_around_what_it_overrides(three_nodes: list[str]) -> None:
    from serve_llm_hooks.ray import LLMConfig, LLMServer, hooked_server

    class Eager(ByItself, LLMServer): ...

    class OwnStart(ByStart, LLMServer):
        async def start(self) -> None:
            raise AssertionError

    for base in (Eager, OwnStart):
        config = LLMConfig(model_id="m", hooks=[never], server_cls=base, accelerator_config={"kind": "cpu"})
        assert config.server_cls is hooked_server(base) is not base
    with pytest.raises(HookLoadError, match=r"Eager starts its engine in its constructor"):
        construct(hooked_server(Eager))
    with pytest.raises(HookError, match=r"hook .*never failed at on_before_init"):
        construct(hooked_server(OwnStart))


def test_one_based_on_a_hooked_one_runs_hooks_once(three_nodes: list[str]) -> None:
    import ray

    from serve_llm_hooks.ray import hooked_server

    @hooked_server
    class Plain(ByStart): ...

    class More(Plain):
        async def start(self) -> None:
            await super().start()
            self.more = True

    seen: list[CallbackCtx] = []

    def look(ctx: CallbackCtx) -> None:
        seen.append(ctx)

    server = construct(hooked_server(More), hook("on_after_init")(look))
    ray.util.remove_placement_group(seen[0].placement_group)
    assert (server.engine, server.more, len(seen)) == ("up", True, 1)
    assert len(asyncio.run(server.hook_trace())) == 1
