"""Answers of a fake engine, with the fields of vLLM's answers that hooks read, and its refusals."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.messages import kind_of
from serve_llm_hooks._replica.ask import PlainRequest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

_WORDS = ("Paris", ".")


@dataclass(frozen=True)
class ErrorInfo:
    """The error in a :class:`FakeErrorResponse`."""

    message: str
    type: str = "BadRequestError"
    param: str | None = None
    code: int = 400


@dataclass(frozen=True)
class FakeErrorResponse:
    """An answer of a fake engine that is an error, as vLLM's ``ErrorResponse``."""

    error: ErrorInfo

    def model_dump(self) -> dict[str, Any]:
        """Return it as a dict."""
        return asdict(self)


@dataclass(frozen=True)
class Message:
    """The text of the model."""

    content: str
    role: str = "assistant"


@dataclass(frozen=True)
class ChatChoice:
    """An answer to a chat request."""

    message: Message
    finish_reason: str
    index: int = 0


@dataclass(frozen=True)
class CompletionChoice:
    """An answer to a completion request."""

    text: str
    finish_reason: str
    index: int = 0


@dataclass(frozen=True)
class Usage:
    """The number of tokens that it took; each word counts as one."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


@dataclass(frozen=True)
class FakeAnswer:
    """The answer of a fake engine, with the fields of vLLM's that hooks read."""

    model: str
    choices: list[Any]
    usage: Usage
    id: str = "fake-answer"
    object: str = "chat.completion"
    created: int = 0

    def model_dump(self) -> dict[str, Any]:
        """Return it as a dict."""
        return asdict(self)


@dataclass(frozen=True)
class Asked:
    """A request, as far as the fake engine reads it."""

    model: str | None
    text: str
    max_tokens: int | None
    streams: bool
    about: str = field(default="chat.completion")


def read_request(request: Any, method: str) -> Asked:
    """Return what is asked.

    Raises:
        AttributeError: it is no request of Ray's, such as a dict, as in production.
    """
    kind, field_name = {
        "chat": ("ChatCompletionRequest", "messages"), "completions": ("CompletionRequest", "prompt")
    }[method]  # fmt: skip
    is_plain = isinstance(request, PlainRequest) and hasattr(request, field_name)
    if not is_plain and kind not in (each.__name__ for each in type(request).__mro__):
        raise AttributeError(
            f"{kind_of(request)} is no request: engine.{method}() takes a {kind} of "
            'ray.serve.llm.openai_api_models; `await serve_llm_hooks.ask(ctx, "Hello!")` makes one'
        )
    limit = getattr(request, "max_completion_tokens", None) or getattr(request, "max_tokens", None)
    return Asked(
        getattr(request, "model", None),
        _text(getattr(request, field_name)),
        limit,
        bool(getattr(request, "stream", False)),
        "chat.completion" if method == "chat" else "text_completion",
    )


def _text(said: Any) -> str:
    if isinstance(said, str):
        return said
    contents = (each["content"] if isinstance(each, dict) else each for each in said or ())
    return " ".join(map(str, contents))


def error_of(asked: Asked, models: Collection[str], kwargs: Mapping[str, Any]) -> ErrorInfo | None:
    """Return the error that vLLM would answer with, in its words; ``None`` for a request that it would take."""
    if asked.model and asked.model not in models:
        return ErrorInfo(f"The model `{asked.model}` does not exist.", "NotFoundError", "model", 404)
    longest = kwargs.get("max_model_len")
    output = asked.max_tokens or 0
    prompt = len(asked.text.split())
    if type(longest) is not int or prompt + output <= longest:
        return None
    if output > longest:
        return ErrorInfo(
            f"max_tokens={output} cannot be greater than max_model_len=max_total_tokens={longest}. Please request "
            f"fewer output tokens. (parameter=max_tokens, value={output})"
        )
    return ErrorInfo(
        f"This model's maximum context length is {longest} tokens. However, you requested {output} output tokens and "
        f"your prompt contains {prompt} input tokens, for a total of {prompt + output} tokens. Please reduce the "
        "length of the input prompt or the number of requested output tokens."
    )


def answer_to(asked: Asked, model_id: str) -> FakeAnswer:
    """Return the answer."""
    words = _WORDS[: asked.max_tokens]
    ended = "length" if len(words) < len(_WORDS) else "stop"
    said = "".join(words)
    asks_chat = asked.about == "chat.completion"
    choice = ChatChoice(Message(said), ended) if asks_chat else CompletionChoice(said, ended)
    prompt = len(asked.text.split())
    usage = Usage(prompt, len(words), prompt + len(words))
    return FakeAnswer(asked.model or model_id, [choice], usage, object=asked.about)


def streamed(answer: FakeAnswer | FakeErrorResponse) -> Iterator[str]:
    """Yield an answer as the lines in which Ray's engine yields it for a request with ``stream=True``."""
    dump = answer.model_dump()
    for choice in dump.get("choices", ()):
        if "message" in choice:
            choice["delta"] = choice.pop("message")
    yield f"data: {json.dumps(dump)}\n\n"
    yield "data: [DONE]\n\n"
