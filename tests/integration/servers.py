"""Servers as users write them: a subclass of Ray's, and a class that is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray.serve.llm.deployment import LLMServer

from tests.stub_engine import StubEngine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Greeting(LLMServer):
    """Does something of its own when it starts."""

    async def start(self) -> None:
        """Start, and greet."""
        await super().start()
        self.greeting = "hello"

    async def greet(self) -> str:
        """Return True if its own start has run."""
        return self.greeting


class Plain:
    """The least that a server is."""

    async def __init__(self, llm_config: Any) -> None:  # type: ignore[misc]  # Serve awaits it
        self._llm_config = llm_config
        self.engine: StubEngine | None = None
        await self.start()

    @classmethod
    def get_deployment_options(cls, llm_config: Any) -> dict[str, Any]:
        """Answer what Ray's builder asks a server's class for."""
        return {"placement_group_bundles": [{"CPU": 1}], "ray_actor_options": {"runtime_env": llm_config.runtime_env}}

    async def start(self) -> None:
        """Start the engine."""
        self.engine = StubEngine(self._llm_config)
        await self.engine.start()

    async def chat(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """Answer what the ingress asks."""
        assert self.engine is not None
        async for answer in self.engine.chat(request):
            yield answer
