"""Requests before the first user's."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from serve_llm_hooks import CallbackCtx, HookError
from serve_llm_hooks.recipes import WarmUp, warm_up
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, engine_answers_error


def config(**kwargs: Any) -> FakeLLMConfig:
    return FakeLLMConfig("m", hooks=[{"hook": "serve_llm_hooks.recipes:WarmUp", "kwargs": kwargs}])


def asked(config: FakeLLMConfig) -> list[Any]:
    engine = FakeCluster().run(config).engine
    assert engine is not None
    return engine.requests


def test_by_default_it_samples_and_asks_for_logprobs() -> None:
    sampled, logprobs = asked(config())
    assert (sampled.temperature, sampled.top_p, sampled.top_k) == (0.8, 0.9, 20)
    assert logprobs.logprobs
    assert sampled.messages == [{"role": "user", "content": "Hello!"}]


def test_chats_and_completions_are_asked_as_they_are_written() -> None:
    told = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello!"}]
    requests = ["Hello!", {"messages": told, "max_tokens": 2}, {"prompt": "Once", "max_tokens": 3}]
    first, second, third = asked(config(requests=requests))
    assert first.messages == [{"role": "user", "content": "Hello!"}]
    assert (second.messages, second.max_tokens) == (told, 2)
    assert (third.prompt, third.max_tokens, third.model) == ("Once", 3, "m")


@pytest.mark.parametrize("requests", [["Hello!"], [{"prompt": "Once"}]], ids=["a chat", "a completion"])
def test_an_answer_that_is_an_error_ends_the_start(requests: Any) -> None:
    cluster = FakeCluster(faults=[engine_answers_error("too long", code=400)])
    with pytest.raises(HookError, match=r"the engine of model 'm' answered .*too long"):
        cluster.run(config(requests=requests))


def test_a_model_without_embeddings_says_so() -> None:
    with pytest.raises(HookError, match="answered embeddings with an error: This model does not support the 'embed'"):
        FakeCluster().run(config(requests=[{"input": "a text"}]))


def test_an_error_may_be_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "serve_llm_hooks"):
        FakeCluster(faults=[engine_answers_error("too long", code=400)]).run(config(on_error="warn"))
    assert "the warm-up has failed, the replica is used cold: " in caplog.text


def test_as_many_are_asked_at_once_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, most = 0, 0

    async def send(ctx: CallbackCtx, fields: dict[str, Any]) -> None:
        nonlocal asked, most
        asked += 1
        most = max(most, asked)
        await asyncio.sleep(5)
        asked -= 1

    monkeypatch.setattr(warm_up, "_send", send)
    run = FakeCluster(engine_start_s=0, download_s=0).run(config(requests=["Hello!"] * 6, concurrency=3))
    assert most == 3
    assert run.elapsed_s == 10


def test_it_takes_no_longer_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send(ctx: CallbackCtx, fields: dict[str, Any]) -> None:
        await asyncio.sleep(1000)

    monkeypatch.setattr(warm_up, "_send", send)
    with pytest.raises(HookError, match="TimeoutError"):
        FakeCluster().run(FakeLLMConfig("m", hooks=[WarmUp(timeout_s=60)]))
