"""``@hook`` on what is no plain function: static methods, bound methods; and generators, where they are refused."""

from __future__ import annotations

import functools
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from serve_llm_hooks import CallbackRunner, HookLoadError, HookSignatureError, hook, load_hooks, registry
from serve_llm_hooks._core.hook import marked_hooks
from tests.unit.stub import Config, refusal, start, start_with

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def any_hook(point: Any, **options: Any) -> Any:
    """Return the decorator as an untyped script sees it."""
    return hook(point, **options)


# -- static and bound methods ---------------------------------------------------------------------------------------


class Methods:
    def __init__(self, name: str) -> None:
        self.name = name
        self.ran: list[str] = []

    @any_hook("on_before_init")  # type: ignore[untyped-decorator]  # checkers know no static method as a hook
    @staticmethod
    def static(ctx: Any) -> None:
        ctx.custom_data["static"] = True

    @classmethod
    def of_class(cls, ctx: Any) -> None:
        ctx.custom_data["of_class"] = cls.__name__

    def method(self, ctx: Any, *, more: str = "") -> None:
        self.ran.append(self.name)
        ctx.custom_data["name"] = self.name + more

    async def later(self, ctx: Any) -> None:
        ctx.custom_data["later"] = self.name


def test_hook_above_staticmethod() -> None:
    assert isinstance(vars(Methods)["static"], staticmethod)
    (one,) = load_hooks(Methods.static)
    assert one.path == f"{__name__}:Methods.static"
    assert load_hooks(f"{__name__}:Methods.static").hooks() == (one,)
    assert start(Methods.static).ctx.custom_data == {"static": True}


def test_a_bound_method() -> None:
    ours, other = Methods("ours"), Methods("other")
    assert any_hook("on_before_init")(ours.method) == ours.method
    any_hook("on_after_init", order=1)(ours.method)
    any_hook("on_after_init")(ours.later)
    assert [one.ref for one in registry] == [f"{__name__}:Methods.{name}" for name in ("method", "method", "later")]
    started = start(ours.method, ours.later, ours.method)
    assert started.names == ["method", "later", "method"]
    assert started.ctx.custom_data == {"name": "ours", "later": "ours"}
    for none in (other.method, other.later, Methods.method):
        with pytest.raises(HookLoadError, match="is no hook"):
            load_hooks(none)


def test_bound_methods_of_two_objects_are_two_hooks() -> None:
    ours, other = Methods("ours"), Methods("other")
    for each in (ours, other, ours):
        any_hook("on_before_init")(each.method)
    assert [one.fn for one in registry.hooks()] == [ours.method, other.method]
    assert len(load_hooks(ours.method, {"hook": ours.method, "kwargs": {"more": "!"}})) == 1


def test_a_bound_method_with_other_options_is_an_error_as_for_functions() -> None:
    ours = Methods("ours")
    any_hook("on_before_init")(ours.method)
    with pytest.raises(ValueError, match=r"Methods\.method is a hook at on_before_init already, with other options"):
        any_hook("on_before_init", order=1)(ours.method)


def test_a_bound_method_of_a_class() -> None:
    any_hook("on_before_init")(Methods.of_class)
    try:
        assert start(Methods.of_class).ctx.custom_data == {"of_class": "Methods"}
    finally:
        del Methods.__serve_llm_hooks_methods__  # type: ignore[attr-defined]  # the decorator sets it


@pytest.mark.parametrize("source", [__name__, "__main__"])
def test_a_bound_method_travels_with_its_object(source: str) -> None:
    namespace: dict[str, Any] = {"__name__": source}
    exec("class C:\n    def m(self, ctx): ctx.custom_data['m'] = self.v", namespace)
    owner = namespace["C"]()
    owner.v = 3
    any_hook("on_before_init")(owner.m)
    sent = pickle.loads(cloudpickle.dumps({"hooks": [owner.m], "found": marked_hooks(owner.m)}))
    (there,) = sent["hooks"]
    assert there.__self__.v == 3
    assert marked_hooks(there)[0].fn == there
    assert sent["found"][0].point == "on_before_init"
    assert start(config=Config(hooks=[there])).ctx.custom_data == {"m": 3}


@dataclass(frozen=True)
class Frozen:
    name: str

    def method(self, ctx: Any) -> None:
        ctx.custom_data["name"] = self.name


def test_a_frozen_object_s_method() -> None:
    frozen = Frozen("a")
    any_hook("on_before_init")(frozen.method)
    assert start(frozen.method).ctx.custom_data == {"name": "a"}
    assert frozen == Frozen("a")


# -- generators -----------------------------------------------------------------------------------------------------


def generator(ctx: Any) -> Iterator[None]:
    yield


@functools.wraps(generator)
def consumes(ctx: Any) -> None:
    list(generator(ctx))


SAYS = (
    " has a `yield`, so calling it would run nothing of it. Write what comes before the yield in it, and what comes "
    "after in "
)
OR = "; or write a function with @hook(...), which may have a `yield`"


def test_a_wrapper_that_runs_a_generator_is_a_hook() -> None:
    any_hook("on_before_init")(consumes)
    assert start(consumes).names == ["generator"]


def test_a_generator_is_no_phase_callback() -> None:
    def phases(phase: str, config: Any, data: Any) -> Iterator[None]:
        yield

    class Phases:
        def __call__(self, phase: str, config: Any, data: Any) -> Iterator[None]:
            yield

    class Replaces:
        async def initialize(self, llm_config: Any) -> AsyncIterator[None]:
            yield

    for callback in (phases, Phases, Phases()):
        assert f" in callbacks=[...]{SAYS}a later phase{OR}" in refusal(callbacks=[callback])
        with pytest.raises(HookSignatureError):
            CallbackRunner([callback])
    assert f"Replaces.initialize{SAYS}a class with methods" in refusal(initialization_class=Replaces)


def test_what_is_no_generator_still_starts() -> None:
    assert start_with(hooks=[Methods.static]).names == ["static"]
