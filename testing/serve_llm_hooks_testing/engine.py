"""The engine of a fake cluster: it records how it was started and what it is asked, and answers."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@cache
def argument_names() -> tuple[frozenset[str], frozenset[str]]:
    """Return the arguments of the engine and those of its OpenAI frontend, as `scripts/engine_args.py` lists them."""
    names = json.loads(Path(__file__).with_name("engine_args.json").read_text(encoding="utf-8"))
    return frozenset(names["engine"]), frozenset(names["frontend"])


@dataclass(frozen=True)
class FakeAnswer:
    """The answer of a fake engine."""

    content: str = "Paris."


@dataclass
class FakeEngine:
    """The engine of a fake cluster: ``ctx.engine`` and ``run.engine``.

    Attributes:
        kwargs: the engine's arguments: the config's, overridden by those that hooks set.
        frontend_kwargs: the arguments of the OpenAI frontend, likewise.
        model_path: where it loads the model from.
        placement_group: where its workers run.
        runtime_env: the runtime environment of its workers.
        requests: the requests it has received.

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
        """Answer a chat request, in an async iterator as the methods of Ray's engine do."""
        self.requests.append(request)
        yield FakeAnswer()

    completions = chat
    """Answer a completion request."""

    async def check_health(self) -> None:
        """Do nothing: a fake engine is always healthy."""
