"""The engine of a fake cluster: it remembers what it was started with, and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["FakeAnswer", "FakeEngine", "argument_names"]


@cache
def argument_names() -> tuple[frozenset[str], frozenset[str]]:
    """The engine's arguments and its OpenAI frontend's, as `scripts/engine_args.py` found them in Ray and vLLM."""
    import json
    from importlib.resources import files

    names = json.loads(files("serve_llm_hooks_testing").joinpath("engine_args.json").read_text(encoding="utf-8"))
    return frozenset(names["engine"]), frozenset(names["frontend"])


@dataclass(frozen=True)
class FakeAnswer:
    """What a fake engine answers."""

    content: str = "Paris."


@dataclass
class FakeEngine:
    """What ``ctx.engine`` is on a fake cluster.

    Attributes:
        kwargs: the engine's arguments: the config's, and over them what hooks set.
        frontend_kwargs: the OpenAI frontend's, likewise.
        model_path: where it finds the model.
        placement_group: where its workers run.
        runtime_env: their runtime environment.
        requests: what it has been asked.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster().run(FakeLLMConfig("m", engine_kwargs={"max_model_len": 128}))
        >>> run.engine.kwargs
        {'max_model_len': 128}
    """

    kwargs: dict[str, Any]
    frontend_kwargs: dict[str, Any]
    model_path: str
    placement_group: Any = None
    runtime_env: dict[str, Any] | None = None
    requests: list[Any] = field(default_factory=list)

    async def chat(self, request: Any, *args: Any, **kwargs: Any) -> AsyncIterator[FakeAnswer]:
        """Answer a chat request, as the methods of Ray's engine do: in an async iterator."""
        self.requests.append(request)
        yield FakeAnswer()

    completions = chat
    """The same for a completion request."""

    async def check_health(self) -> None:
        """It is always well."""
