"""Classes that replace the whole initialization."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    HookResultError,
    HookSignatureError,
    InitializeNodeOutput,
)
from serve_llm_hooks._sources.fields import warn_of_initialization_class
from serve_llm_hooks._sources.replace_style import hooks_of_initialization_class
from tests.unit.stub import FullConfig, StubCluster, refusal, start_with

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import CallbackCtx

    WriteModule = Callable[[str, str], Path]

HERE = __name__


class MyInit:
    def __init__(self, group: tuple[str, ...] = ("n2",)) -> None:
        self.group = group

    async def initialize(self, llm_config: Any) -> InitializeNodeOutput:
        assert llm_config.model_id == "m"
        return InitializeNodeOutput(self.group, {"env_vars": {"A": "1"}}, {"max_model_len": 128})


@pytest.mark.parametrize("given", [MyInit, f"{HERE}.MyInit", MyInit()])
def test_a_replace_everything_class_is_a_veto_and_a_custom_init(given: Any) -> None:
    cluster = StubCluster()
    started = start_with(cluster, initialization_class=given)
    assert [(event.hook, event.point, event.outcome, event.detail) for event in started.ctx.trace] == [
        (f"{HERE}:MyInit", "on_before_init", "vetoed", "MyInit replaces the initialization"),
        (f"{HERE}:MyInit.initialize", "on_custom_init", "ok", ""),
    ]
    assert cluster.calls == ["configure None", "engine"]
    assert started.output == InitializeNodeOutput(("n2",), {"env_vars": {"A": "1"}}, {"max_model_len": 128})


def test_its_arguments() -> None:
    started = start_with(initialization_class=MyInit, initialization_kwargs={"group": ("n0", "n1")})
    assert started.output.placement_group == ("n0", "n1")
    assert "there is no 'gruop' (did you mean 'group'?)" in refusal(
        HookSignatureError, initialization_class=MyInit, initialization_kwargs={"gruop": ()}
    )


class LeavesThingsOut:
    def initialize(self, llm_config: Any) -> InitializeNodeOutput:
        return InitializeNodeOutput()


def test_what_it_leaves_out_is_the_default() -> None:
    cluster = StubCluster()
    output = start_with(cluster, initialization_class=LeavesThingsOut).output
    assert output == InitializeNodeOutput(cluster.nodes, None, {})


class ReturnsADict:
    async def initialize(self, llm_config: Any) -> dict[str, Any]:
        return {"placement_group": None}


def test_what_it_returns_is_checked() -> None:
    with pytest.raises(HookResultError, match=r"ReturnsADict\.initialize failed .* which has no placement_group; init"):
        start_with(initialization_class=ReturnsADict)


def test_of_what_it_returns_only_the_type_is_told() -> None:
    class ReturnsAText:
        def initialize(self, llm_config: Any) -> str:
            return "hf_S3cret"

    with pytest.raises(HookResultError, match=r"it returned a str, which has no placement_group"):
        start_with(initialization_class=ReturnsAText)


class InitializesNothing:
    def on_before_init(self, ctx: CallbackCtx) -> None: ...


def test_a_class_that_initializes_nothing() -> None:
    message = refusal(initialization_class=InitializesNothing)
    assert message.startswith(
        f"initialization_class {HERE}:InitializesNothing has no method `async def initialize(self, llm_config)"
    )
    assert "callback=... with on_custom_init" in message

    class Wrong:
        async def initialize(self) -> None: ...

    assert "Wrong.initialize() does not fit (too many positional arguments); it is `async def" in refusal(
        HookSignatureError, initialization_class=Wrong
    )
    assert len(hooks_of_initialization_class(MyInit)) == 2


def test_it_is_deprecated_with_the_name_of_what_replaces_it() -> None:
    def make() -> None:
        warn_of_initialization_class(FullConfig(initialization_class=MyInit), stacklevel=1)

    with pytest.warns(DeprecationWarning, match=re.escape("`async def on_custom_init(self, ctx)`")) as told:
        make()
    assert told[0].filename == __file__
    warn_of_initialization_class(FullConfig(), stacklevel=1)  # silence
