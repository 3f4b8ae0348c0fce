"""``ask``: a chat request to the started engine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import CallbackCtx, EngineAnswerError, HookError, ServeLLMHooksError, ask, hook
from tests.unit.stub import run, start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def test_an_engine_without_chat_is_an_error_that_says_what_to_do() -> None:
    @hook("on_after_engine_init")
    async def warm_up(ctx: CallbackCtx) -> None:
        await ask(ctx, "Hello!")

    with pytest.raises(HookError) as caught:
        start(warm_up)
    cause = caught.value.__cause__
    assert type(cause) is ServeLLMHooksError
    assert str(cause).startswith("ask(ctx, ...): the engine of model 'm' (str) has no chat()")
    assert "await ctx.engine.async_generate(...)" in str(cause)


def test_a_request_that_is_answered_with_an_error_is_ended_before_that_is_told() -> None:
    ended: list[str] = []

    async def chat(request: Any) -> AsyncIterator[Any]:
        try:
            yield SimpleNamespace(error=SimpleNamespace(code=400, message="too long"))
            yield "more of it"
        finally:
            ended.append("the request")

    async def main() -> list[str]:
        ctx: Any = SimpleNamespace(model_id="m", engine=SimpleNamespace(chat=chat))
        with pytest.raises(EngineAnswerError, match="too long"):
            await ask(ctx, "Hello!")
        return list(ended)

    assert run(main()) == ["the request"]
