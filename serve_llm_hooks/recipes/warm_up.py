"""``WarmUp``: requests to the engine before the replica is ready, so that no user pays for what is still lazy."""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import aclosing
from importlib import import_module
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import RayServeLLMCallback, ServeLLMHooksError, ask

from . import _arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve_llm_hooks import CallbackCtx

_logger = logging.getLogger("serve_llm_hooks.recipes")

_SAMPLED = {"messages": "Hello!", "max_tokens": 4, "temperature": 0.8, "top_p": 0.9, "top_k": 20}
_LOGPROBS = {"messages": "Hello!", "max_tokens": 4, "logprobs": True, "top_logprobs": 1}

# Whatever asks for something else than a chat: the field that tells it, the engine's method, and its request's class.
_OTHERS = {
    "prompt": ("completions", "CompletionRequest"),
    "input": ("embeddings", "EmbeddingCompletionRequest"),
}


class WarmUp(RayServeLLMCallback):
    """Ask the engine what users will ask, before the first of them does.

    Args:
        requests: each a text, or the fields of a request: with ``messages`` (a text, or a conversation) of a chat,
            with ``prompt`` of a completion, with ``input`` of embeddings. Left out: a sampled chat, and one with
            ``logprobs``, since each of these makes the engine compile something of its own.
        concurrency: how many are asked at once.
        timeout_s: how long all of it may take.
        on_error: ``"raise"`` ends the start where an answer is an error, ``"warn"`` logs it.

    Raises:
        TypeError, ValueError: an argument that cannot be meant.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster().run(FakeLLMConfig("m", hooks=[WarmUp(requests=["Hello!", {"prompt": "Once"}])]))
        >>> len(run.engine.requests)
        2
    """

    checks_arguments = True

    def __init__(
        self,
        requests: Sequence[str | Mapping[str, Any]] = (_SAMPLED, _LOGPROBS),
        *,
        concurrency: int = 1,
        timeout_s: float = 300,
        on_error: str = "raise",
    ) -> None:
        """Check the arguments."""
        if not isinstance(requests, list | tuple) or not requests:
            raise TypeError("requests= is a list, of texts or of the fields of requests")
        self.requests: list[dict[str, Any]] = [_fields_of(each) for each in requests]
        _arguments.number("concurrency", concurrency, least=1, whole=True)
        _arguments.number("timeout_s", timeout_s, least=0.001)
        _arguments.one_of("on_error", on_error, "raise", "warn")
        self.concurrency: int = concurrency
        self.timeout_s: float = timeout_s
        self.on_error: str = on_error

    async def on_after_engine_init(self, ctx: CallbackCtx) -> None:
        """Ask.

        Raises:
            ServeLLMHooksError: the engine has answered with an error.
            TimeoutError: it took too long.
        """
        slots = asyncio.Semaphore(self.concurrency)

        async def send(fields: dict[str, Any]) -> None:
            async with slots:
                await _send(ctx, fields)

        try:
            async with asyncio.timeout(self.timeout_s):
                for answer in await asyncio.gather(*map(send, self.requests), return_exceptions=True):
                    if isinstance(answer, BaseException):
                        raise answer
        except (ServeLLMHooksError, TimeoutError) as error:
            if self.on_error == "raise":
                raise
            _logger.warning("model %r: the warm-up has failed, the replica is used cold: %s", ctx.model_id, error)


def _fields_of(request: object) -> dict[str, Any]:
    fields = {"messages": request} if isinstance(request, str) else request
    kinds = ("messages", *_OTHERS)
    if not isinstance(fields, dict) or sum(kind in fields for kind in kinds) != 1:
        raise ValueError("one of requests= is a text, or fields with one of 'messages', 'prompt' and 'input'")
    if fields.get("stream"):
        raise ValueError("one of requests= has stream: leave it out, the engine does the same work without")
    return dict(fields)


async def _send(ctx: CallbackCtx, fields: dict[str, Any]) -> None:
    """Send a request and wait for its answer.

    Raises:
        ServeLLMHooksError: it is an error.
    """
    if "messages" in fields:
        await ask(ctx, **fields)
        return
    method, name = next(way for field, way in _OTHERS.items() if field in fields)
    cls = type(name, (SimpleNamespace,), {})  # no Ray Serve LLM is loaded, so that is a fake engine
    if "ray.serve.llm" in sys.modules:
        module = import_module("ray.serve.llm.openai_api_models")
        cls = getattr(module, name, None) or module.EmbeddingRequest.__args__[0]  # a union of two kinds
    async with aclosing(getattr(ctx.engine, method)(cls(model=ctx.model_id, **fields))) as answers:
        async for answer in answers:
            error = getattr(answer, "error", None)
            if error is not None:
                why = getattr(error, "message", "it does not say why")
                raise ServeLLMHooksError(f"the engine of model {ctx.model_id!r} answered {method} with an error: {why}")
