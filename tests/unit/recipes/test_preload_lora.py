"""``PreloadLoRA`` on a fake cluster; the engine test has real adapters."""

from __future__ import annotations

from typing import Any

import pytest

from serve_llm_hooks import CallbackCtx, HookError, HookLoadError, HookSignatureError, ask, hook
from serve_llm_hooks.recipes import PreloadLoRA
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, check_hooks, explore_hooks

FIELDS: dict[str, Any] = {
    "lora_config": {"dynamic_lora_loading_path": "s3://models/adapters"},
    "engine_kwargs": {"enable_lora": True, "max_cpu_loras": 2},
}


QUOTES = "vLLM takes no such max_cpu_loras: write a whole number without quotes, as max_cpu_loras: 8"


def entry(**kwargs: Any) -> dict[str, Any]:
    return {"hook": "serve_llm_hooks.recipes:PreloadLoRA", "kwargs": kwargs}


ENTRY = entry(adapters=["french", "legal"])


def test_adapters_are_loaded_before_hooks_that_ask_for_them() -> None:
    @hook("on_after_init")
    async def asks(ctx: CallbackCtx) -> None:
        ctx.custom_data["model"] = (await ask(ctx, "Bonjour", model="llama:french")).model

    run = FakeCluster().run(FakeLLMConfig("llama", hooks=[ENTRY, asks], **FIELDS))
    assert run.engine is not None
    assert run.engine.loras == ["llama:french", "llama:legal"]


@hook("on_before_engine_init")
def no_adapters(ctx: CallbackCtx) -> None:
    """Have the engine take none, which no config knows of."""
    ctx.extra_init_kwargs["enable_lora"] = False


def test_one_that_cannot_be_loaded_ends_the_start_or_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    told = "the adapter 'french' of model 'llama' cannot be loaded: Failed to load lora model"
    with pytest.raises(HookError, match=told):
        FakeCluster().run(FakeLLMConfig("llama", hooks=[ENTRY, no_adapters], **FIELDS))
    hooks = [entry(adapters=["french"], on_error="warn"), no_adapters]
    assert FakeCluster().run(FakeLLMConfig("llama", hooks=hooks, **FIELDS)).error is None
    assert told in caplog.text


@pytest.mark.parametrize(
    ("kwargs", "told"),
    [
        ({"adapters": "french"}, "adapters= is a list of texts, as in"),
        ({"adapters": []}, "adapters= is a list of texts"),
        ({"adapters": ["s3://models/french"]}, "adapters= has names of folders in the dynamic_lora_loading_path"),
        ({"adapters": ["../french"]}, "adapters= has names of folders"),
        ({"adapters": ["french", "french"]}, "adapters= has 'french' twice"),
        ({"adapters": ["$ADAPTER"]}, "has '$ADAPTER' in it, which nothing replaces"),
        ({"adapters": ["french"], "on_error": "ignore"}, "on_error= is one of 'raise', 'warn'"),
    ],
)
def test_a_wrong_argument_is_told_where_the_config_is_made(kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(HookSignatureError) as error:
        FakeLLMConfig("llama", hooks=[entry(**kwargs)], **FIELDS)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("adapters", "fields", "told"),
    [
        (["french"], {"lora_config": None}, "there are no adapters: write lora_config: {dynamic_lora_loading_path"),
        (["french"], {"lora_config": {}}, "there are no adapters"),
        (["french"], {"engine_kwargs": {}}, "write enable_lora: true into engine_kwargs"),
        (["llama:french"], {}, "adapters= names them without the model's id: 'french'"),
        (["a", "b", "c"], {}, "3 adapters are to be loaded, and 2 are kept: write engine_kwargs: {max_cpu_l"),
        (
            ["a", "b"],
            {"engine_kwargs": {"enable_lora": True}},
            "and 1 are kept: write engine_kwargs: {max_cpu",
        ),
        (["a"], {"engine_kwargs": {"enable_lora": True, "max_cpu_loras": "8"}}, QUOTES),
        (["a"], {"engine_kwargs": {"enable_lora": True, "max_cpu_loras": [8]}}, QUOTES),
        (["a"], {"engine_kwargs": {"enable_lora": True, "max_cpu_loras": 8.5}}, QUOTES),
        (["a"], {"engine_kwargs": {"enable_lora": True, "max_cpu_loras": float("nan")}}, QUOTES),
        (["a"], {"engine_kwargs": {"enable_lora": True, "max_loras": "many"}}, QUOTES.replace("cpu_", "")),
        (["a"], {"engine_kwargs": {"enable_lora": True, "max_loras": None}}, QUOTES.replace("cpu_", "")),
        (["a", "b"], {"engine_kwargs": {"enable_lora": True, "max_cpu_loras": -1}}, "and 1 are kept"),
        (
            ["a", "b"],
            {"lora_config": FIELDS["lora_config"] | {"max_num_adapters_per_replica": 1}},
            "and 1 are kept: write lora_config: {max_num_adapters_per_replica: 2}",
        ),
    ],
)
def test_a_config_without_room_for_them(adapters: list[str], fields: dict[str, Any], told: str) -> None:
    with pytest.raises(HookLoadError) as error:
        FakeLLMConfig("llama", hooks=[entry(adapters=adapters)], **(FIELDS | fields))
    assert told in str(error.value)


@pytest.mark.parametrize(
    "engine_kwargs",
    [{"max_cpu_loras": 2.0}, {"max_loras": "2"}, {"max_loras": 2, "max_cpu_loras": -1}, {"max_loras": 2}],
)
def test_numbers_as_vllm_reads_them(engine_kwargs: dict[str, Any]) -> None:
    fields = FIELDS | {"engine_kwargs": {"enable_lora": True, **engine_kwargs}}
    FakeLLMConfig("llama", hooks=[entry(adapters=["a", "b"])], **fields)
    with pytest.raises(HookLoadError, match="3 adapters are to be loaded, and 2 are kept"):
        FakeLLMConfig("llama", hooks=[entry(adapters=["a", "b", "c"])], **fields)


def test_two_of_them_need_room_for_all() -> None:
    entries = [PreloadLoRA(["a", "b"]), PreloadLoRA(["b", "c"])]
    with pytest.raises(HookLoadError, match="3 adapters are to be loaded, and 2 are kept"):
        FakeLLMConfig("llama", hooks=entries, **FIELDS)


@pytest.mark.parametrize(
    "lora_config",
    [{"path": "s3://a"}, {"dynamic_lora_loading_path": "/adapters"}, {"max_num_adapters_per_replica": 0}, "s3://a"],
)
def test_a_lora_config_that_ray_refuses(lora_config: Any) -> None:
    with pytest.raises(ValueError, match="lora_config"):
        FakeLLMConfig("llama", hooks=[], lora_config=lora_config)


def test_it_survives_what_hooks_must() -> None:
    config = FakeLLMConfig("llama", hooks=[ENTRY], **FIELDS)
    check_hooks(config)
    explore_hooks(config, seeds=4)
