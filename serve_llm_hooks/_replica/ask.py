"""``ask``: send the started engine a chat request from a hook, as Ray's engine takes one."""

from __future__ import annotations

import sys
from contextlib import aclosing
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from .._core.errors import EngineAnswerError, ServeLLMHooksError
from .._core.messages import describe, text_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .._core.context import CallbackCtx


class PlainRequest(SimpleNamespace):
    """A chat request where Ray Serve LLM is not loaded, and so no engine of its: on a fake cluster."""


async def ask(ctx: CallbackCtx, messages: str | Sequence[Mapping[str, Any]], **fields: Any) -> Any:
    """Ask the started engine, and return its answer: a warm-up, or a check that it answers at all.

    Nothing heavy is imported: in a replica, Ray's request classes are loaded already.

    Args:
        ctx: the context of a hook at ``on_after_engine_init`` or later.
        messages: what the user says, or a whole conversation as ``[{"role": ..., "content": ...}, ...]``.
        fields: other fields of a chat completion request (``max_tokens``, ``temperature``, ...).

    Returns:
        The chat completion; its text is ``answer.choices[0].message.content``.

    Raises:
        EngineAnswerError: the engine answered with an error; it yields these, and raises nothing.
        ServeLLMHooksError: there is no engine yet, it is one without ``chat()`` (SGLang's), or it gave no answer.
        TypeError: ``stream=True``; the answer comes whole.

    Example:
        >>> @hook("on_after_engine_init", timeout_s=120)  # doctest: +SKIP
        ... async def warm_up(ctx):
        ...     await ask(ctx, "Hello!", max_tokens=1)
    """
    if ctx.engine is None:
        raise ServeLLMHooksError("ask(ctx, ...): there is no engine yet; it is there from on_after_engine_init on")
    if fields.get("stream"):
        raise TypeError("ask(ctx, ...) returns the whole answer: leave stream= out, or call ctx.engine.chat yourself")
    chat = getattr(ctx.engine, "chat", None)
    if chat is None:
        raise ServeLLMHooksError(
            f"ask(ctx, ...): the engine of model {ctx.model_id!r} ({type(ctx.engine).__name__}) has no chat(). "
            "Ray's vLLM engine has one, SGLang's has not. Call a method that it has, such as "
            "`await ctx.engine.async_generate(...)` of SGLang's."
        )
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    request = _request_class()(**{"model": ctx.model_id, "messages": list(messages), **fields})
    answer: Any = None
    async with aclosing(chat(request)) as answers:  # an error leaves it before its end
        async for answer in answers:
            error = getattr(answer, "error", None)
            if error is not None:
                raise _error_of(ctx.model_id, error)
    if answer is None:
        raise ServeLLMHooksError(f"the engine of model {ctx.model_id!r} gave no answer")
    return answer


def _request_class() -> type[Any]:
    """Return the class of chat requests that the engine of this process takes."""
    if "ray.serve.llm" not in sys.modules:
        return PlainRequest
    from ray.serve.llm.openai_api_models import ChatCompletionRequest

    return ChatCompletionRequest


def _error_of(model_id: str, error: Any) -> EngineAnswerError:
    code = getattr(error, "code", None)
    status = code if isinstance(code, int) else None
    message = getattr(error, "message", None)
    said = text_of(RuntimeError(message)) if isinstance(message, str) else describe(error)
    shown = "" if status is None else f" ({status})"
    return EngineAnswerError(f"the engine of model {model_id!r} answered with an error{shown}: {said}", code=status)
