"""``plan_hooks``, and where a hook is defined."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks import HookNotAllowedError, HookRegistry, load_hooks, plan_hooks
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import CallbackCtx

    Write = Callable[..., Path]


def test_what_is_planned_is_what_runs(write_module: Write) -> None:
    write_module(
        "acme_hooks",
        """
        @hook("on_after_init")
        def last(ctx): ...

        @hook("on_before_download", order=1)
        def second(ctx): ...

        @hook("on_before_download")
        def first(ctx): ...

        @hook("on_custom_init")
        def never(ctx): ...

        @hook("on_failure", model_id="other")
        def other(ctx): ...
        """,
    )
    config = FakeLLMConfig("m", hooks=["acme_hooks"])
    plan = plan_hooks(config)
    assert plan.model_id == "m"
    assert [hook.path for hook in plan.hooks] == [event.hook for event in FakeCluster().run(config).trace]
    assert [hook.name for hook, _ in plan.not_run] == ["other", "never"]


def test_a_plan_runs_nothing_and_makes_no_instance() -> None:
    class Setup:
        def __init__(self) -> None:
            raise RuntimeError("made")

        def on_before_init(self, ctx: CallbackCtx) -> None: ...

    [hook] = plan_hooks(FakeLLMConfig("m", hooks=[], callback=Setup)).hooks
    assert hook.name == "on_before_init"


def test_the_policy_of_the_config() -> None:
    assert plan_hooks(FakeLLMConfig("m", hooks=[])).on_error == "raise"
    assert plan_hooks(FakeLLMConfig("m", hooks=[], on_error="warn")).on_error == "warn"


def test_it_raises_what_a_start_would(write_module: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module("acme_hooks", '@hook("on_failure")\ndef a(ctx): ...')
    config = FakeLLMConfig("m", hooks=["acme_hooks"])
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "other")
    with pytest.raises(HookNotAllowedError):
        plan_hooks(config)


def test_where_hooks_are_defined(write_module: Write) -> None:
    file = write_module(
        "acme_hooks",
        """
        import functools

        @hook("on_failure")
        def plain(ctx): ...

        def wrap(fn):
            @functools.wraps(fn)
            def wrapper(ctx):
                return fn(ctx)
            return wrapper

        @hook("on_failure")
        @wrap
        def wrapped(ctx): ...

        class Setup:
            def on_failure(self, ctx): ...

        class Called:
            def __call__(self, ctx): ...

        called = hook("on_failure")(Called())
        """,
    )
    found = {hook.name: hook.location for hook in load_hooks("acme_hooks", "acme_hooks:Setup")}
    assert found == {
        "plain": (str(file), 5),
        "wrapped": (str(file), 14),
        "Called": (str(file), 22),
        "on_failure": (str(file), 19),
    }


def test_where_partials_and_what_is_written_in_c_are() -> None:
    def fn(ctx: CallbackCtx, size: int = 0) -> None: ...

    registry = HookRegistry()
    registry.hook("on_failure")(functools.partial(fn, size=1))
    [hook] = registry
    assert hook.location == (__file__, fn.__code__.co_firstlineno)

    registry = HookRegistry()
    registry.hook("on_after_init")(functools.partial(sys.displayhook))
    [hook] = registry
    assert hook.location is None
