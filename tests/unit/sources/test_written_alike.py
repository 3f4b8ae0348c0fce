"""Hooks of one start that are written alike are told apart by a number, without their values, which may be secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookError, HookRegistry, hook
from tests.unit.stub import Config, StubCluster, start, start_with

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serve_llm_hooks import CallbackCtx
    from tests.unit.stub import Started

HERE = __name__


@hook("on_before_node_download")
@hook("on_after_init")
def fetch(ctx: Any, *, token: str) -> None:
    if token == "wrong":
        raise PermissionError("401")


class Fetch:
    def __init__(self, token: str) -> None:
        self.token = token

    def on_after_init(self, ctx: CallbackCtx) -> None: ...


def made(token: str) -> Callable[[CallbackCtx], None]:
    @HookRegistry().hook("on_after_init", order=-ord(token))
    def fetch(ctx: CallbackCtx) -> None: ...

    return fetch


def bound(*tokens: str) -> list[dict[str, Any]]:
    return [{"hook": fetch, "kwargs": {"token": token}} for token in tokens]


def at(started: Started, point: str) -> list[str]:
    return [event.hook for event in started.ctx.trace if event.point == point]


def test_bindings_of_one_function_are_numbered_in_the_order_of_the_config() -> None:
    started = start(config=Config(hooks=bound("a", "b", "c")), cluster=StubCluster(("n0", "n1")))
    ref = f"{HERE}:fetch(token=…)"
    assert at(started, "on_after_init") == [ref, f"{ref}#2", f"{ref}#3"]
    assert at(started, "on_before_node_download") == [ref, f"{ref}#2", f"{ref}#3"] * 2
    assert {event.name for event in started.ctx.trace} == {"fetch"}


def test_the_error_of_one_says_which() -> None:
    with pytest.raises(HookError, match=r"fetch\(token=…\)#2 failed at on_after_init") as caught:
        start(config=Config(hooks=bound("a", "wrong")), cluster=StubCluster(()))
    assert caught.value.hook == f"{HERE}:fetch(token=…)#2"


@pytest.mark.parametrize("off", ["fetch", f"{HERE}:fetch"])
def test_hooks_that_are_turned_off_are_numbered_too(off: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_LLM_HOOKS_DISABLE", off)
    started = start(config=Config(hooks=bound("a", "b")), cluster=StubCluster(()))
    ref = f"{HERE}:fetch(token=…)"
    assert at(started, "on_after_init") == [ref, f"{ref}#2"]
    assert started.names == []


def test_the_number_is_the_place_in_the_config_and_not_in_the_order() -> None:
    started = start(made("a"), made("b"))
    ref = f"{HERE}:made.<locals>.fetch"
    assert at(started, "on_after_init") == [f"{ref}#2", ref]


@pytest.mark.parametrize(
    ("hooks", "ref"),
    [
        ([{"hook": Fetch, "kwargs": {"token": "a"}}, {"hook": Fetch, "kwargs": {"token": "b"}}], "Fetch.on_after_init"),
        ([Fetch("a"), Fetch("b")], "Fetch.on_after_init"),
    ],
)
def test_objects_of_one_class_are_numbered(hooks: Sequence[Any], ref: str) -> None:
    started = start_with(hooks=hooks)
    assert at(started, "on_after_init") == [f"{HERE}:{ref}", f"{HERE}:{ref}#2"]
    assert [event.name for event in started.ctx.trace] == ["on_after_init", "on_after_init"]


def test_hooks_of_different_names_have_no_number() -> None:
    @hook("on_after_init")
    def other(ctx: CallbackCtx) -> None: ...

    started = start(other, bound("a")[0])
    assert not [event.hook for event in started.ctx.trace if "#" in event.hook]
