"""Test all recipes: they survive what hooks must, and tell a wrong argument where the config is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import serve_llm_hooks.recipes
from serve_llm_hooks import HookSignatureError
from serve_llm_hooks_testing import FakeLLMConfig, check_hooks, explore_hooks
from tests.unit.stub import public_names

if TYPE_CHECKING:
    from pathlib import Path

GOOD: dict[str, dict[str, Any]] = {
    "BakedModel": {"path": "$FOLDER"},
    "CheckNode": {"min_free_gib": 0.001, "min_memory_gib": 0.001, "min_cpus": 1},
    "ExportEnv": {"RECIPES_TEST": "on", "RECIPES_TEST_COUNT": 4},
    "Notify": {"url": "$RECIPES_TEST_WEBHOOK"},
    "PrefetchWeights": {"path": "$FOLDER", "leave_gib": 0},
    "RegisterModel": {"arch": "OurModel", "path": "our_classes:OurModel"},
    "RegisterReasoningParser": {"path": "our_classes:OurThoughts"},
    "RegisterToolParser": {"path": "our_classes:OurTools", "name": "ours"},
    "WarmUp": {},
}
NAMES = [name for name in public_names(serve_llm_hooks.recipes) if name in GOOD]


def entry(name: str, /, **kwargs: Any) -> dict[str, Any]:
    return {"hook": f"serve_llm_hooks.recipes:{name}", "kwargs": kwargs}


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("name", NAMES)
def test_it_survives_what_hooks_must(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("RECIPES_TEST", "RECIPES_TEST_COUNT", "RECIPES_TEST_WEBHOOK"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9/nobody")
    kwargs = {key: str(folder) if value == "$FOLDER" else value for key, value in GOOD[name].items()}
    check_hooks(entry(name, **kwargs), real_sleep_limit_s=10)
    explore_hooks(entry(name, **kwargs), seeds=5)


@pytest.mark.parametrize(
    ("name", "kwargs", "told"),
    [
        ("BakedModel", {"path": "models/llama"}, "path= is absolute, as in .*, and not 'models/llama'"),
        ("BakedModel", {"path": "s3://models/llama"}, "what is in a bucket must be fetched"),
        ("BakedModel", {"path": "u:pw@host/llama"}, "path= has a user or a password in it; secrets are"),
        ("BakedModel", {"path": "/models/{model_id}"}, ".* has '{model_id}' in it, which nothing replaces"),
        ("BakedModel", {"path": 3}, "path= is a folder, as a text"),
        ("BakedModel", {"path": "/m", "files": "*.gguf"}, "files= is a list of texts"),
        ("CheckNode", {}, "it is to check nothing: give min_free_gib=, gpus= or another"),
        ("CheckNode", {"min_free_gib": "20"}, "min_free_gib= is a number, 0 or more"),
        ("CheckNode", {"min_memory_gib": -1}, "min_memory_gib= is a number, 0 or more"),
        ("CheckNode", {"gpus": 1.5}, "gpus= is a whole number"),
        ("CheckNode", {"min_gpu_free_gib": 70}, "give gpus= too"),
        ("CheckNode", {"min_driver": 550.1}, "min_driver= is a version in quotes, as a text"),
        ("CheckNode", {"min_driver": "new"}, "min_driver= is a version"),
        ("CheckNode", {"min_free_gib": 1, "path": "models"}, "path= is absolute"),
        ("ExportEnv", {}, "name the variables, as in kwargs"),
        ("ExportEnv", {"A=B": "1"}, "'A=B' is no name of a variable"),
        ("ExportEnv", {"DEBUG": True}, "DEBUG= is a text or a number; put quotes around true"),
        ("ExportEnv", {"DEBUG": None}, "DEBUG= is a text or a number"),
        ("ExportEnv", {"CUDA_VISIBLE_DEVICES": "0"}, "CUDA_VISIBLE_DEVICES cannot be set from a hook"),
        ("Notify", {"url": "hooks.slack.com/T"}, "url= begins with https:// or http://, or is '.NAME'"),
        ("Notify", {"url": "$"}, "or is '.NAME' for a variable"),
        ("Notify", {"url": "$U", "events": ["start"]}, "events= is one of 'ready', 'failure', 'shutdown'"),
        ("Notify", {"url": "$U", "style": "teams"}, "style= is one of 'json', 'slack', None"),
        ("Notify", {"url": "$U", "timeout_s": 900}, "timeout_s= is a number, from 0.001 to 60"),
        ("PrefetchWeights", {"files": "*.bin"}, "files= is a list of texts"),
        ("PrefetchWeights", {"path": "models"}, "path= is absolute"),
        ("PrefetchWeights", {"threads": 0}, "threads= is a whole number, from 1 to 64"),
        ("PrefetchWeights", {"leave_gib": -1}, "leave_gib= is a number, 0 or more"),
        ("RegisterModel", {"arch": "", "path": "m:C"}, "arch= is the architecture"),
        ("RegisterModel", {"arch": "A", "path": "m.C"}, "path= names a class as 'my_company.module:Class', not 'm.C'"),
        ("RegisterToolParser", {"path": "parsers.py:C"}, "path= names a class"),
        ("RegisterToolParser", {"path": "m:C", "name": 3}, "name= is what the engine's arguments call the parser"),
        ("RegisterReasoningParser", {"path": "m:C", "use": "no"}, "use= is one of True, False"),
        ("WarmUp", {"requests": "Hello"}, "requests= is a list"),
        ("WarmUp", {"requests": []}, "requests= is a list"),
        ("WarmUp", {"requests": [{"max_tokens": 1}]}, "fields with one of 'messages', 'prompt' and 'input'"),
        ("WarmUp", {"requests": [{"prompt": "a", "stream": True}]}, "one of requests= has stream: leave it out"),
        ("WarmUp", {"concurrency": 0}, "concurrency= is a whole number, 1 or more"),
        ("WarmUp", {"timeout_s": 0}, "timeout_s= is a number, 0.001 or more"),
        ("WarmUp", {"on_error": "ignore"}, "on_error= is one of 'raise', 'warn'"),
    ],
)
def test_a_wrong_argument_is_told_where_the_config_is_made(name: str, kwargs: dict[str, Any], told: str) -> None:
    with pytest.raises(HookSignatureError, match=f"{name} cannot be made with kwargs=.*: {told}|{name}.*{told}"):
        FakeLLMConfig("m", hooks=[entry(name, **kwargs)])
