"""Named hooks that are for another model than the config's: told, with what nearly matches."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry, hook, load_hooks
from serve_llm_hooks._sources import select
from serve_llm_hooks._sources.select import hooks_of_config, warn_of_unmatched
from tests.unit.stub import Config, told

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    WriteModule = Callable[[str, str], Path]

ADVICE = ". In @hook, write the model's id, a pattern for it, or no model_id"


@pytest.fixture(autouse=True)
def _not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(select, "_WARNED", set())


def shop(pattern: str) -> str:
    return f"@hook('on_before_init', model_id={pattern!r})\ndef f(ctx): pass\n"


@pytest.mark.parametrize(
    ("pattern", "model_id", "near"),
    [
        ("qwen/*", "Qwen/Qwen3-8B", ", which differs from 'Qwen/Qwen3-8B' in upper and lower case"),
        ("Qwen/qwen3-8b", "Qwen/Qwen3-8B", ", which differs from 'Qwen/Qwen3-8B' in upper and lower case"),
        ("meta-lama/*", "meta-llama/Llama-3.1-8B", "; did you mean 'meta-llama/Llama-3.1-8B'?"),
        ("meta-llama/Llama-3-8B", "meta-llama/Llama-3.1-8B", "; did you mean 'meta-llama/Llama-3.1-8B'?"),
        ("gemma", "Qwen/Qwen3-8B", ""),
        ("*-base", "Qwen/Qwen3-8B", ""),
    ],
)
def test_none_that_matches_is_told_with_a_near_miss(
    write_module: WriteModule, caplog: pytest.LogCaptureFixture, pattern: str, model_id: str, near: str
) -> None:
    write_module("shop", shop(pattern))
    warn_of_unmatched(["shop"], model_id)
    says = (
        f"model {model_id!r}: named for it, but not run, since they are for other models: shop:f at on_before_init "
        f"(model_id={pattern!r}{near}){ADVICE}"
    )
    assert told(caplog) == [says]
    hooks_of_config(Config(model_id, ["shop"]))
    assert told(caplog) == []  # the start, after the config
    warn_of_unmatched(["shop"], model_id)
    assert told(caplog) == [says]


def test_a_start_tells_what_no_config_has_told(write_module: WriteModule, caplog: pytest.LogCaptureFixture) -> None:
    write_module("shop", shop("qwen"))
    for warnings in (1, 0):
        hooks_of_config(Config("llama", ["shop"]))
        assert len(told(caplog)) == warnings


def test_what_is_named_singly_is_told(write_module: WriteModule, caplog: pytest.LogCaptureFixture) -> None:
    write_module("shop", shop("qwen") + "@hook('on_before_init')\ndef g(ctx): pass")
    f = importlib.import_module("shop").f
    for entry in ("shop:f", "shop.f", f, {"hook": "shop:f"}):
        warn_of_unmatched([entry, "shop:g", "shop"], "llama")
        (message,) = told(caplog)
        assert "since they are for other models: shop:f at on_before_init (model_id='qwen')." in message


def test_a_module_may_hold_hooks_for_other_models(write_module: WriteModule, caplog: pytest.LogCaptureFixture) -> None:
    write_module("shop", shop("qwen") + "@hook('on_before_init')\ndef g(ctx): pass")
    write_module("other", shop("qwen"))

    class Style:
        def on_before_init(self, ctx: Any) -> None: ...

    warn_of_unmatched(["shop", "other", HookRegistry(load_hooks("other"))], "llama")
    warn_of_unmatched([Style, "other"], "llama")
    warn_of_unmatched(["shop:f", "other"], "qwen")
    warn_of_unmatched([], "llama")
    assert told(caplog) == []
    warn_of_unmatched(["other", HookRegistry(load_hooks("shop:f"))], "llama")
    assert "other:f at on_before_init (model_id='qwen'), shop:f" in told(caplog)[0]


@pytest.mark.parametrize(("model_id", "warnings"), [("Qwen/Qwen3-8B", 1), ("gemma", 0)])
def test_a_script_is_told_of_a_near_miss_only(caplog: pytest.LogCaptureFixture, model_id: str, warnings: int) -> None:
    exec(shop("qwen/*"), {"__name__": "__main__", "hook": hook})
    assert len(hooks_of_config(Config(model_id, None))) == 0
    assert len(told(caplog)) == warnings


@pytest.mark.parametrize(
    ("pattern", "warnings"),
    [
        ("qwen/*", 1),
        ("qwen/qwen3-8b", 1),
        ("Qwem/*", 1),
        ("Qwen/Qwne3-8B", 1),
        ("Qwen/Qwen3-32B", 0),
        ("Qwen/Qwen2-8B", 0),
        ("Qwen/Qwen3-8B-Instruct", 0),
        ("meta-llama/*", 0),
        ("*-base", 0),
    ],
)
def test_a_module_for_a_mistyped_model_is_told_though_another_matches(
    write_module: WriteModule, caplog: pytest.LogCaptureFixture, pattern: str, warnings: int
) -> None:
    write_module("shop", "@hook('on_before_init')\ndef g(ctx): pass")
    write_module("other", shop(pattern))
    warn_of_unmatched(["shop", "other"], "Qwen/Qwen3-8B")
    messages = told(caplog)
    assert len(messages) == warnings
    assert all("other:f at on_before_init" in message for message in messages)
