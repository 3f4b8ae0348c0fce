"""Test which hooks a config selects, for all the ways to write a hook."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    HookOrderError,
    HookSignatureError,
    InitializeNodeOutput,
    hook,
    load_hooks,
)
from serve_llm_hooks._sources.select import hooks_of_config
from tests.unit.stub import SHOP, Config, FullConfig, RayConfig, names, start_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import CallbackCtx

    WriteModule = Callable[[str, str], Path]


class MyInit:
    async def initialize(self, llm_config: Any) -> InitializeNodeOutput:
        return InitializeNodeOutput()


class Methods:
    def on_before_init(self, ctx: CallbackCtx) -> None: ...


def phase_function(phase: str, config: Any, data: Any) -> None: ...


@hook("on_before_init")
def decorated(ctx: CallbackCtx) -> None: ...


@hook("on_before_init", order=-1)
def early(ctx: CallbackCtx) -> None: ...


def test_the_order_is_that_of_the_configs_fields() -> None:
    started = start_with(
        hooks=[decorated, early], callbacks=[phase_function], callback=Methods, initialization_class=MyInit
    )
    assert [event.hook.partition(":")[2] for event in started.ctx.trace if event.point == "on_before_init"] == [
        "early",
        "MyInit",
        "Methods.on_before_init",
        "phase_function",
        "decorated",
    ]


# -- what a config selects ----------------------------------------------------------------------------------------


def in_the_script(source: str) -> None:
    """Run what a script has in it."""
    exec(source, {"__name__": "__main__", "hook": hook})


def test_parameters_that_a_hook_of_the_script_needs_are_told_before_it_runs() -> None:
    in_the_script("@hook('on_before_node_download', model_id='llama')\ndef fetch(ctx, *, bucket): ...")
    assert names(hooks_of_config(Config("qwen", None))) == []
    for config in (Config("llama", None), RayConfig("llama")):
        with pytest.raises(HookSignatureError) as caught:
            hooks_of_config(config)
        assert str(caught.value) == (
            "hook __main__:fetch(ctx, *, bucket) cannot be called with parameters {}: missing a required argument: "
            '\'bucket\'. Parameters are given in the config: hooks=[{"hook": fetch, "kwargs": {...}}].'
        )


def test_the_order_of_what_the_script_decorated_and_a_callback_brings_is_told_when_it_is_selected() -> None:
    class Style:
        def on_before_init(self, ctx: Any) -> None: ...

    in_the_script("@hook('on_before_init', after='on_before_init', before='on_before_init')\ndef f(ctx): ...")
    assert names(hooks_of_config(FullConfig("m", None))) == ["f"]
    with pytest.raises(HookOrderError, match="form a circle at on_before_init"):
        hooks_of_config(FullConfig("m", None, callback=Style))


@pytest.fixture
def in_process() -> None:
    """Hooks that are registered in the process: two of the running script itself, one of a module."""
    for module, name, model_id in [
        ("__main__", "of_the_script", None),
        ("__main__", "of_qwen", "qwen"),
        ("some_module", "of_a_module", None),
    ]:
        source = f"@hook('on_before_init', model_id={model_id!r})\ndef {name}(ctx):\n    pass\n"
        exec(source, {"__name__": module, "hook": hook})


@pytest.mark.usefixtures("in_process")
def test_left_out_is_what_the_script_decorated_for_the_model() -> None:
    assert names(hooks_of_config(Config("llama", None))) == ["of_the_script"]
    assert names(hooks_of_config(Config("qwen", None))) == ["of_the_script", "of_qwen"]


@pytest.mark.usefixtures("in_process")
def test_an_empty_list_is_none() -> None:
    assert names(hooks_of_config(Config("llama", []))) == []


@pytest.mark.usefixtures("in_process")
def test_a_list_is_exactly_those_for_the_model(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    assert names(hooks_of_config(Config("llama-2", ["shop"]))) == ["first", "second", "third"]
    assert names(hooks_of_config(Config("gemma", ["shop"])).for_model("gemma")) == ["first", "third"]


@pytest.mark.usefixtures("in_process")
def test_a_config_without_such_a_field_takes_all_that_the_process_has() -> None:
    assert names(hooks_of_config(RayConfig("llama"))) == ["of_the_script", "of_a_module"]


@pytest.mark.usefixtures("in_process")
def test_a_config_that_has_travelled_carries_what_its_script_decorated(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    left_out: Any = Config("llama-2", None)
    left_out._script_hooks = list(load_hooks("shop"))
    assert names(hooks_of_config(left_out)) == ["first", "second", "third"]
    left_out.hooks = []
    assert names(hooks_of_config(left_out)) == []
