"""The engine of a fake cluster: it records how it was started and what it is asked, and answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._simulation.answers import (
    ErrorInfo,
    FakeAnswer as FakeAnswer,
    FakeErrorResponse as FakeErrorResponse,
    answer_to,
    error_of,
    read_request,
    streamed,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass
class FakeEngine:
    """The engine of a fake cluster: ``run.engine``, and behind ``ctx.engine``, which has only what Ray's engine has.

    Attributes:
        kwargs: the engine's arguments: the config's, overridden by those that hooks set.
        frontend_kwargs: the arguments of the OpenAI frontend, likewise.
        model_path: where it loads the model from.
        placement_group: where its workers run.
        runtime_env: the runtime environment of its workers.
        requests: the requests it has received.
        model_id: the model's id, as clients name it.
        error: what it answers everything with, if that is an error.
        loras: the ids of the LoRA adapters that it was told to load.
        vllm_kwargs: with ``FakeCluster(engine_check=...)``, all that vLLM is given, with what Ray adds.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster().run(FakeLLMConfig("m", engine_kwargs={"max_model_len": 128}))
        >>> run.engine.kwargs
        {'max_model_len': 128}
    """

    kwargs: dict[str, Any] = field(default_factory=dict)
    frontend_kwargs: dict[str, Any] = field(default_factory=dict)
    model_path: str = "/models/test-model"
    placement_group: Any = None
    runtime_env: dict[str, Any] | None = None
    requests: list[Any] = field(default_factory=list)
    model_id: str = "test-model"
    error: ErrorInfo | None = None
    loras: list[str] = field(default_factory=list)
    vllm_kwargs: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        """Be awake."""
        self._is_asleep: bool = False
        self._is_paused: bool = False

    async def chat(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """Answer a chat request, in an async iterator as Ray's engine does; an error is an answer too.

        Raises:
            AttributeError: it is no ``ChatCompletionRequest``.
        """
        for answer in self._answers(request, "chat"):
            yield answer

    async def completions(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[Any]:
        """Answer a completion request.

        Raises:
            AttributeError: it is no ``CompletionRequest``.
        """
        for answer in self._answers(request, "completions"):
            yield answer

    async def embeddings(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[FakeErrorResponse]:
        """Answer that this model makes no embeddings."""
        yield _unsupported("embed", "embedding")

    async def score(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[FakeErrorResponse]:
        """Answer that this model gives no scores."""
        yield _unsupported("score", "score")

    async def transcriptions(self, request: Any, raw_request_info: Any = None) -> AsyncIterator[FakeErrorResponse]:
        """Answer that this model does not listen."""
        yield _unsupported("transcription", "transcription")

    async def check_health(self) -> None:
        """Do nothing: a fake engine is always healthy."""

    async def reset_prefix_cache(self) -> None:
        """Do nothing: a fake engine has no cache."""

    async def resolve_lora(self, disk_lora_model: Any) -> None:
        """Record the adapter."""
        self.loras.append(disk_lora_model.model_id)

    async def sleep(self, **kwargs: Any) -> None:
        """Sleep until :meth:`wakeup`, at a level of 1 or 2."""
        if kwargs.get("level", 1) not in (1, 2):
            raise ValueError("level must be 1 or 2")
        self._is_asleep = True

    async def wakeup(self, **kwargs: Any) -> None:
        """Wake up."""
        self._is_asleep = False

    async def is_sleeping(self) -> bool:
        """Return whether it sleeps."""
        return self._is_asleep

    async def pause(self, **kwargs: Any) -> None:
        """Take no requests until :meth:`resume`."""
        if kwargs.get("mode", "abort") not in ("abort", "wait", "keep"):
            raise ValueError("mode is 'abort', 'wait' or 'keep'")
        self._is_paused = True

    async def resume(self, **kwargs: Any) -> None:
        """Go on."""
        self._is_paused = False

    async def is_paused(self) -> bool:
        """Return whether it is paused."""
        return self._is_paused

    def _answers(self, request: Any, method: str) -> list[Any]:
        asked = read_request(request, method)
        self.requests.append(request)
        error = self.error or error_of(asked, (self.model_id, *self.loras), self.kwargs)
        answer = answer_to(asked, self.model_id) if error is None else FakeErrorResponse(error)
        return list(streamed(answer)) if asked.streams and error is None else [answer]


def _unsupported(task: str, endpoint: str) -> FakeErrorResponse:
    return FakeErrorResponse(
        ErrorInfo(
            f"This model does not support the '{task}' task. The {endpoint} endpoint is not available for this model.",
            "invalid_request_error",
        )
    )


RAYS_METHODS = (
    "chat", "check_health", "completions", "embeddings", "is_paused", "is_sleeping", "pause", "reset_prefix_cache",
    "resolve_lora", "resume", "score", "sleep", "transcriptions", "wakeup",
)  # fmt: skip


class EngineForHooks:
    """A view of a fake engine for hooks: the methods that Ray's engine has too, and nothing that only a test reads."""

    def __init__(self, engine: FakeEngine) -> None:
        """Take the engine."""
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        """Return one of these methods."""
        engine = self.__dict__.get("_engine")
        if name in RAYS_METHODS and engine is not None:
            return getattr(engine, name)
        why = f": it is for tests, as run.engine.{name}" if hasattr(FakeEngine(), name) else ""
        raise AttributeError(f"ctx.engine has no {name!r} on a fake cluster{why}")
