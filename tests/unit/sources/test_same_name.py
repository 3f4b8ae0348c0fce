"""Different functions with one path: what is listed, or stands in a namespace, runs."""

from __future__ import annotations

import sys
import time
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry, hook, load_hooks, registry
from serve_llm_hooks._sources.select import hooks_of_config
from tests.unit.stub import Config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    WriteModule = Callable[[str, str], Path]

MODELS = ("llama", "qwen", "phi")

LOOP = """
hs = []
for m in ["llama", "qwen", "phi"]:
    @hook("on_before_init", model_id=m)
    def prepare(ctx): pass
    hs.append(prepare)
"""

KEPT = """
@hook("on_before_init", model_id="llama")
def f(ctx): "for llama"

f_llama = f

@hook("on_before_init", model_id="qwen")
def f(ctx): "for qwen"
"""


def models(hooks: Iterable[Any]) -> list[str]:
    """Return the models that hooks are for."""
    return [model for one in hooks for model in one.options.model_ids]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, Any]]:
    """Run source as the script that is running."""
    main = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", main)
    vars(main)["hook"] = hook

    def execute(source: str) -> dict[str, Any]:
        exec(source, vars(main))
        return vars(main)

    return execute


def of_script(model_id: str) -> list[str]:
    return models(hooks_of_config(Config(model_id, None)))


def test_the_functions_of_a_loop_all_run(script: Callable[[str], dict[str, Any]]) -> None:
    for _ in range(2):  # a cell that runs again replaces them all
        hs = script(LOOP)["hs"]
        assert models(load_hooks(*hs)) == list(MODELS)
        assert models(registry) == list(MODELS)
        for model_id in MODELS:
            assert of_script(model_id) == [model_id]
            assert models(hooks_of_config(Config(model_id, hs)).for_model(model_id)) == [model_id]


def test_those_of_a_loop_in_a_module_too(write_module: WriteModule) -> None:
    write_module("loop", LOOP.replace("hs.append(prepare)", 'globals()["f_" + m] = prepare'))
    assert sorted(models(load_hooks("loop"))) == sorted(MODELS)
    assert models(load_hooks(*(f"loop:f_{m}" for m in MODELS))) == list(MODELS)


def test_what_is_kept_by_another_name_runs(write_module: WriteModule, script: Callable[[str], dict[str, Any]]) -> None:
    write_module("kept", KEPT)
    assert sorted(models(load_hooks("kept"))) == ["llama", "qwen"]
    assert models(load_hooks("kept:f_llama", "kept:f")) == ["llama", "qwen"]
    registry.clear()
    script(KEPT)
    assert [of_script(model) for model in ("llama", "qwen")] == [["llama"], ["qwen"]]


def test_what_no_name_holds_is_replaced(script: Callable[[str], dict[str, Any]]) -> None:
    script(KEPT.replace("f_llama = f", "_12 = f"))
    assert models(registry) == ["qwen"]


def test_a_registry_s_loop() -> None:
    ours = HookRegistry()
    exec(LOOP, {"hook": ours.hook, "__name__": "ours"})
    assert models(ours) == models(load_hooks(ours)) == list(MODELS)
    assert models(HookRegistry(ours)) == list(MODELS)


def test_a_function_at_two_points_of_a_loop_stays_at_both() -> None:
    source = LOOP.replace("    def", '    @hook("on_after_init", model_id=m)\n    def')
    exec(source, {"hook": hook, "__name__": "points"})
    assert len(registry) == 6


def test_many_of_one_name_take_linear_time(script: Callable[[str], dict[str, Any]]) -> None:
    began = time.perf_counter()
    hs = script(LOOP.replace('["llama", "qwen", "phi"]', "map(str, range(2000))"))["hs"]
    assert len(load_hooks(*hs)) == len(registry) == 2000
    assert of_script("7") == ["7"]
    assert time.perf_counter() - began < 5


WRAPPED_LOOP = """
import functools
def logged(fn):
    @functools.wraps(fn)
    def wrapper(ctx): return fn(ctx)
    return wrapper
""" + LOOP.replace("    @hook", "    @logged\n    @hook")


def test_a_script_s_loop_under_a_decorator_is_told(
    script: Callable[[str], dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    hs = script(WRAPPED_LOOP)["hs"]
    assert models(load_hooks(*hs)) == list(MODELS)
    assert of_script("phi") == ["phi"]
    assert "prepare at on_before_init does not run any more" in caplog.text
