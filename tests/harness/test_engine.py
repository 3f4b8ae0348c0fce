"""The fake engine takes and answers what Ray's does, and is started with what vLLM would be given."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import CallbackCtx, EngineAnswerError, HookError, HookRegistry, ServeLLMHooksError, ask
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeEngine,
    FakeLLMConfig,
    FakeRun,
    HarnessWarning,
    call_hook,
    callback_ctx,
    engine_answers_error,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


class ChatCompletionRequest:
    """As Ray's, of which the fake engine knows the name."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class CompletionRequest(ChatCompletionRequest):
    """Likewise."""


def started(hooks: HookRegistry, cluster: FakeCluster | None = None, **kwargs: Any) -> FakeRun:
    """Start a replica of model ``m``."""
    return (cluster or FakeCluster()).run(FakeLLMConfig("m", hooks=[hooks], engine_kwargs=kwargs), check=False)


@pytest.fixture
def asks(hooks: HookRegistry) -> Callable[..., HookRegistry]:
    """Make hooks of one that asks the engine."""

    def make(messages: Any = "Hello!", **fields: Any) -> HookRegistry:
        @hooks.hook("on_after_engine_init")
        async def warm_up(ctx: CallbackCtx) -> None:
            answer = await ask(ctx, messages, **fields)
            choice = answer.choices[0]
            ctx.custom_data["answer"] = [choice.message.content, choice.finish_reason, answer.usage.completion_tokens]

        return hooks

    return make


def test_a_hook_asks(asks: Callable[..., HookRegistry]) -> None:
    run = started(asks())
    assert run.error is None
    assert run.ctx is not None
    assert run.ctx.custom_data["answer"] == ["Paris.", "stop", 2]
    assert run.engine is not None
    (request,) = run.engine.requests
    assert request.model == "m"
    assert request.messages == [{"role": "user", "content": "Hello!"}]


def test_the_answer_is_as_long_as_was_asked_for(asks: Callable[..., HookRegistry]) -> None:
    run = started(asks([{"role": "system", "content": "Be short."}], max_tokens=1))
    assert run.ctx is not None
    assert run.ctx.custom_data["answer"] == ["Paris", "length", 1]


@pytest.mark.parametrize(
    ("fields", "code", "says"),
    [
        ({"max_tokens": 200}, 400, "max_tokens=200 cannot be greater than max_model_len=max_total_tokens=128"),
        ({"messages": "very " * 200}, 400, "maximum context length is 128 tokens"),
        ({"model": "another"}, 404, "The model `another` does not exist"),
    ],
)
def test_an_answer_that_is_an_error_is_raised(
    asks: Callable[..., HookRegistry], fields: dict[str, Any], code: int, says: str
) -> None:
    run = started(asks(**fields), max_model_len=128)
    assert isinstance(run.error, HookError)
    assert isinstance(run.error.__cause__, EngineAnswerError)
    assert run.error.__cause__.code == code
    assert says in str(run.error)


def test_an_engine_that_answers_with_errors(asks: Callable[..., HookRegistry]) -> None:
    run = started(asks(), FakeCluster(faults=[engine_answers_error("no room", code=503)]))
    assert isinstance(run.error, HookError)
    assert "the engine of model 'm' answered with an error (503): no room" in str(run.error)
    assert run.engine is not None
    assert run.unstruck == ()


def test_an_engine_that_nobody_asks_answers_nothing(hooks: HookRegistry) -> None:
    with pytest.warns(HarnessWarning, match=r"engine_answers_error\(\) never struck"):
        run = started(hooks, FakeCluster(faults=[engine_answers_error()]))
    assert run.error is None


def test_a_dict_is_no_request_here_as_in_production(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_engine_init")
    async def warm_up(ctx: CallbackCtx) -> None:
        async for _ in ctx.engine.chat({"messages": [{"role": "user", "content": "hello"}]}):
            pass

    run = started(hooks)
    assert isinstance(run.error, HookError)
    assert isinstance(run.error.__cause__, AttributeError)
    assert "a dict is no request" in str(run.error)


def test_the_engines_own_methods(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_engine_init")
    async def use(ctx: CallbackCtx) -> None:
        engine = ctx.engine
        await engine.check_health()
        await engine.reset_prefix_cache()
        completion = [
            each async for each in engine.completions(CompletionRequest(model="m", prompt="Hi", max_tokens=9))
        ]
        request = ChatCompletionRequest(model="m", messages=[{"role": "user", "content": "Hi"}], stream=True)
        lines = [each async for each in engine.chat(request)]
        embedding = [each async for each in engine.embeddings(None)]
        ctx.custom_data["seen"] = [completion[0].choices[0].text, lines[0][:6], lines[-1], embedding[0].error.code]

        await engine.sleep(level=2)
        await engine.pause()
        ctx.custom_data["idle"] = [await engine.is_sleeping(), await engine.is_paused()]
        await engine.wakeup()
        await engine.resume()
        ctx.custom_data["idle"] += [await engine.is_sleeping(), await engine.is_paused()]

    run = started(hooks)
    assert run.ctx is not None
    assert run.ctx.custom_data["idle"] == [True, True, False, False]
    assert run.ctx.custom_data["seen"] == ["Paris.", "data: ", "data: [DONE]\n\n", 400]


@pytest.mark.parametrize("name", ["requests", "kwargs", "generate"])
def test_hooks_see_nothing_that_only_the_fake_has(hooks: HookRegistry, name: str) -> None:
    @hooks.hook("on_after_engine_init")
    def look(ctx: CallbackCtx) -> None:
        getattr(ctx.engine, name)

    run = started(hooks)
    assert isinstance(run.error, HookError)
    assert f"ctx.engine has no '{name}' on a fake cluster" in str(run.error)
    assert ("run.engine." in str(run.error)) is (name != "generate")


def test_asking_too_early_and_in_pieces(hooks: HookRegistry) -> None:
    ctx = callback_ctx("m")
    with pytest.raises(ServeLLMHooksError, match="no engine yet"):
        asyncio.run(ask(ctx, "Hello!"))
    with pytest.raises(TypeError, match="whole answer"):
        asyncio.run(ask(callback_ctx("m", engine=FakeEngine(model_id="m")), "Hello!", stream=True))


class Mute:
    """An engine that ends without an answer."""

    async def chat(self, request: object) -> AsyncIterator[object]:
        nothing: tuple[object, ...] = ()
        for answer in nothing:
            yield answer


class Odd:
    """An engine whose error says nothing that can be read."""

    async def chat(self, request: object) -> AsyncIterator[object]:
        yield SimpleNamespace(error=SimpleNamespace(code="x", message=None))


def test_engines_that_say_nothing() -> None:
    with pytest.raises(ServeLLMHooksError, match="the engine of model 'm' gave no answer"):
        asyncio.run(ask(callback_ctx("m", engine=Mute()), "Hello!"))
    with pytest.raises(EngineAnswerError, match=r"answered with an error: a types\.SimpleNamespace") as caught:
        asyncio.run(ask(callback_ctx("m", engine=Odd()), "Hello!"))
    assert caught.value.code is None


def test_a_warm_up_alone(asks: Callable[..., HookRegistry]) -> None:
    (warm_up,) = asks()
    engine = FakeEngine(model_id="m")
    call_hook(warm_up.fn, callback_ctx("m", engine=engine))
    assert len(engine.requests) == 1


def test_an_answer_error_crosses_processes() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(EngineAnswerError("no", code=503)))
    assert (str(error), error.code) == ("no", 503)


# -- what it is started with ------------------------------------------------------------------------------------------


def test_a_streaming_engine_is_given_the_bucket() -> None:
    config = FakeLLMConfig("m", [], model_source="s3://models/m", engine_kwargs={"load_format": "runai_streamer"})
    run = FakeCluster().run(config)
    assert run.engine is not None
    assert run.engine.model_path == "s3://models/m"
    assert run.ctx is not None
    assert run.ctx.model_path == "m"


def test_a_hooks_own_path_wins_over_the_bucket(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_engine_init")
    def own_path(ctx: CallbackCtx) -> None:
        ctx.model_path = "/scratch/m"

    run = started(hooks, load_format="runai_streamer")
    assert run.engine is not None
    assert run.engine.model_path == "/scratch/m"


def test_a_config_that_is_changed_behind_the_engine_does_not_reach_it(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_engine_init")
    def too_late(ctx: CallbackCtx) -> None:
        ctx.llm_config.engine_kwargs["seed"] = 7
        ctx.llm_config.engine_kwargs["compilation_config"]["mode"] = 3

    run = started(hooks, compilation_config={"mode": 0})
    assert run.engine is not None
    assert run.engine.kwargs == {"compilation_config": {"mode": 0}}


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"model": "/m"}, "model or served_model_name is not allowed in engine_kwargs"),
        ({"served_model_name": ["m"]}, "Please use `model_loading_config` in LLMConfig instead"),
        ({"distributed_executor_backend": "mp"}, "distributed_executor_backend != 'ray' is not allowed"),
        ({"compilation_config": {"levle": 3}}, r"(?s)Invalid vLLM config for 'compilation_config': .*levle"),
    ],
)
def test_what_ray_refuses_when_its_engine_starts(hooks: HookRegistry, kwargs: dict[str, Any], says: str) -> None:
    reached: list[str] = []

    @hooks.hook("on_before_engine_init")
    def last(ctx: CallbackCtx) -> None:
        reached.append("the engine")

    run = started(hooks, **kwargs)
    assert reached == ["the engine"]
    assert type(run.error) is RuntimeError
    assert str(run.error).startswith("Failed to create vLLM engine config: ")
    with pytest.raises(RuntimeError, match=says):
        raise run.error


def test_a_hooks_argument_is_refused_like_the_configs(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_engine_init")
    def backend(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["distributed_executor_backend"] = "mp"

    assert "distributed_executor_backend" in str(started(hooks).error)


def test_on_a_cpu_ray_chooses_the_backend_itself() -> None:
    config = FakeLLMConfig(
        "m", [], accelerator_config={"kind": "cpu"}, engine_kwargs={"distributed_executor_backend": "ray"}
    )
    assert FakeCluster().run(config).error is None
