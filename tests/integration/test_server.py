"""Server classes of people's own, and what of them cannot be hooked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from serve_llm_hooks import CallbackCtx, HookLoadError, hook
from tests.conftest import require_engine

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _engine() -> None:
    require_engine()


@hook("on_before_init")
def never(ctx: CallbackCtx) -> None:
    raise AssertionError


def construct(server_cls: Any) -> Any:
    """As Serve makes it."""
    from serve_llm_hooks.ray import LLMConfig

    config = LLMConfig(model_id="m", hooks=[never], accelerator_config={"kind": "cpu"})

    async def make() -> Any:
        server = server_cls.__new__(server_cls)
        await server.__init__(config)
        return server

    return asyncio.run(make())


def test_a_constructor_that_starts_its_engine_by_itself_is_told() -> None:
    from serve_llm_hooks.ray import hooked_server

    class Eager:
        async def __init__(self, llm_config: Any) -> None:  # type: ignore[misc]  # Serve awaits it
            self.engine = "up"

        async def start(self) -> None: ...

    with pytest.raises(HookLoadError, match=r"Eager'> starts its engine in its constructor and never calls start\(\)"):
        construct(hooked_server(Eager))


def test_so_is_that_of_a_subclass_of_rays() -> None:
    from ray.serve.llm.deployment import LLMServer

    from serve_llm_hooks.ray import hooked_server

    class Eager(LLMServer):
        async def __init__(self, llm_config: Any) -> None:  # type: ignore[misc]  # Serve awaits it
            self.engine = "up"

    with pytest.raises(HookLoadError, match=r"let the constructor `await self\.start\(\)`, as Ray's LLMServer does"):
        construct(hooked_server(Eager))
