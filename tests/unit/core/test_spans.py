"""Hooks with a ``yield``: where they may end, and what becomes of them when a start is cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from types import FunctionType
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import (
    HOOK_POINTS,
    Hook,
    HookLoadError,
    HookRegistry,
    HookSignatureError,
    RayServeLLMCallback,
    UnknownHookError,
    initialization,
    initialize_node,
)
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._core.until import check_ends_before_the_engine
from tests.unit.stub import Config, StubCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from serve_llm_hooks import HookName

POINTS = list(HOOK_POINTS)


def at(point: Any, **options: Any) -> Any:
    """Return the decorator of a registry of its own, as an untyped script sees it."""
    return HookRegistry().hook(point, **options)


def sync_span(ctx: Any) -> Iterator[None]:
    yield


async def async_span(ctx: Any) -> AsyncIterator[None]:
    yield


def fresh(fn: Any) -> Any:
    """Return the same function, which nobody has decorated yet."""
    return FunctionType(fn.__code__, fn.__globals__, fn.__name__)


def plain(ctx: Any) -> None: ...


class Spans:
    def __call__(self, ctx: Any) -> Iterator[None]:
        yield

    def method(self, ctx: Any) -> Iterator[None]:
        yield


# -- where it is written ----------------------------------------------------------------------------------------------


@given(st.sampled_from(POINTS), st.sampled_from(POINTS), st.sampled_from([sync_span, async_span]))
def test_until_is_a_later_point_that_a_good_start_comes_to(point: Any, until: Any, fn: Any) -> None:
    first, last = HOOK_POINTS[point], HOOK_POINTS[until]
    decorate = at(point, until=until)
    if first.during != "start" or first.in_process:
        with pytest.raises(HookSignatureError):
            decorate(fresh(fn))
        return
    possible = POINTS.index(until) > POINTS.index(point) and first.where == last.where and last.during != "failure"
    try:
        decorate(fresh(fn))
    except ValueError as error:
        refused = str(error)
    else:
        assert possible
        return
    assert f"until={until!r} of {__name__}:{fn.__name__} at {point}: " in refused


@pytest.mark.parametrize(
    ("point", "until", "says"),
    [
        ("on_after_init", "on_before_init", "that point does not come later. until= is one of on_shutdown here; left"),
        ("on_before_init", "on_before_init", "that point does not come later"),
        ("on_before_init", "on_failure", "a good start never comes to that point"),
        ("on_before_init", "on_after_download", "a veto can leave it out. until= is one of on_before_engine_init, "),
        ("on_custom_init", "on_after_download", "a veto can leave it out"),
        ("on_before_init", "on_after_node_download", "that point is on nodes, in other processes"),
        ("on_before_node_download", "on_after_engine_init", "until= is one of on_after_node_download here; left out, "),
        (
            "on_after_node_download",
            "on_after_node_engine_init",
            "before that. Leave it out; left out, the end of the w",
        ),
    ],
)
def test_until_says_what_to_write(point: str, until: str, says: str) -> None:
    with pytest.raises(ValueError, match="until=") as caught:
        at(point, until=until)(sync_span)
    assert says in str(caught.value)


@pytest.mark.parametrize("until", ["on_after_download", "on_before_engine_init", "on_after_init", "on_shutdown"])
def test_until_is_taken(until: str) -> None:
    at("on_before_download", until=until)(fresh(async_span))


@pytest.mark.parametrize(
    ("point", "until", "says"),
    [
        (
            "on_before_init",
            "on_shutdown",
            "work in the background of a start, which is over by then. until= is one of ",
        ),
        ("on_after_init", "on_shutdown", "which is over by then. Leave it out."),
        (
            "on_before_node_download",
            "on_after_node_download",
            "is waited for in the replica. until= is one of on_after_",
        ),
        (
            "on_before_init",
            "on_after_node_download",
            "is waited for in the replica. until= is one of on_before_engine_",
        ),
        ("on_before_init", "on_custom_init", "a veto can leave it out"),
        ("on_after_init", "on_before_init", "that point does not come later. Leave it out."),
    ],
)
def test_until_of_a_hook_without_a_yield(point: str, until: str, says: str) -> None:
    with pytest.raises(ValueError, match="until=") as caught:
        at(point, until=until)(FunctionType(plain.__code__, globals()))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "until",
    ["on_after_download", "on_before_engine_init", "on_engine_process_start", "on_after_engine_init", "on_after_init"],
)
@pytest.mark.parametrize("point", ["on_before_download", "on_before_node_download", "on_after_node_download"])
def test_until_is_taken_in_the_background(point: str, until: str) -> None:
    at(point, until=until)(FunctionType(plain.__code__, globals()))


def test_until_is_a_point() -> None:
    with pytest.raises(UnknownHookError, match="did you mean 'on_after_init'"):
        at("on_before_init", until="on_after_initt")(sync_span)


def test_a_config_of_rays_own_ends_before_the_engine() -> None:
    def hook_of(point: Any, **options: Any) -> Hook:
        return Hook(sync_span, HookOptions(point, **options))

    check_ends_before_the_engine(hook_of("on_before_init", until="on_before_engine_init"))
    check_ends_before_the_engine(hook_of("on_before_node_download"))
    check_ends_before_the_engine(Hook(plain, HookOptions("on_before_node_download", until="on_after_download")))
    points: tuple[HookName, ...] = ("on_engine_process_start", "on_after_init")
    for point in points:
        with pytest.raises(HookLoadError, match=f"lasts until {point}, which Ray's callback_config never reaches"):
            check_ends_before_the_engine(Hook(plain, HookOptions("on_before_node_download", until=point)))
    check_ends_before_the_engine(Hook(plain, HookOptions("on_before_init")))
    for until, last in ((None, "the end of the start"), ("on_shutdown", "on_shutdown")):
        with pytest.raises(HookLoadError, match=f"sync_span at on_before_init lasts until {last}, which Ray's callb"):
            check_ends_before_the_engine(hook_of("on_before_init", until=until))


SPANS = [
    sync_span,
    async_span,
    Spans(),
    Spans().method,
    functools.partial(sync_span),
    staticmethod(sync_span),
]


@pytest.mark.parametrize("fn", SPANS, ids=range(len(SPANS)))
@pytest.mark.parametrize("point", ["on_shutdown", "on_failure", "on_node_failure"])
def test_at_the_last_points_there_is_nothing_to_wait_for(fn: Any, point: str) -> None:
    with pytest.raises(HookSignatureError, match=f"has a `yield`, and nothing comes after {point}"):
        at(point)(fn)


def test_a_context_manager_is_told_to_leave_its_decorator_out() -> None:
    for made in (contextlib.contextmanager(sync_span), contextlib.asynccontextmanager(async_span)):
        with pytest.raises(HookSignatureError, match=r"is a context manager of contextlib.*leave the decorator out"):
            at("on_before_init")(made)

    with pytest.raises(HookSignatureError, match="leave the decorator out"):

        class Typed(RayServeLLMCallback):
            @contextlib.contextmanager
            def on_after_init(self, ctx: Any) -> Iterator[None]:  # type: ignore[override]  # the mistake under test
                yield


# -- a start that is cancelled ---------------------------------------------------------------------------------------


def load(*fns: Any) -> HookRegistry:
    hooks = HookRegistry()
    for fn, *how in (each if isinstance(each, tuple) else (each, "on_before_init") for each in fns):
        decorate: Any = hooks.hook  # a test may give it any function
        decorate(how[0], **(how[1] if len(how) > 1 else {}))(fn)
    return hooks


class Interrupted:
    """A start that is cancelled while a hook waits."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.told: list[str] = []
        self._stubborn = stubborn

    def outer(self, ctx: Any) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self.told.append(f"outer {type(error).__name__}")
            raise

    async def inner(self, ctx: Any) -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            self.told.append(f"inner {type(error).__name__}")
            await asyncio.sleep(0)
            self.told.append("inner is done")

    async def waits(self, ctx: Any) -> None:
        self._waits.set()
        await asyncio.sleep(1000)

    async def waits_before_its_yield(self, ctx: Any) -> AsyncIterator[None]:
        self._waits.set()
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            self.told.append("cancelled")
            if self._stubborn:
                yield
                self.told.append("never")
            raise
        yield

    def fails(self, ctx: Any) -> None:
        self.told.append("on_failure")

    async def run(self, hooks: HookRegistry) -> None:
        """Start, and cancel the start once a hook waits."""
        self._waits = asyncio.Event()
        task = asyncio.create_task(start(hooks))
        await self._waits.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def start(hooks: HookRegistry) -> None:
    async with initialization(Config(), cluster=StubCluster(), hooks=hooks):
        pass


def test_a_start_that_is_cancelled_ends_its_spans() -> None:
    told = Interrupted()
    asyncio.run(told.run(load(told.outer, told.inner, (told.waits, "on_after_init"), (told.fails, "on_failure"))))
    assert told.told == ["inner CancelledError", "inner is done", "outer CancelledError"]


@pytest.mark.parametrize("stubborn", [False, True])
def test_a_span_that_is_cancelled_before_its_yield_has_nothing_to_end(stubborn: bool) -> None:
    told = Interrupted(stubborn=stubborn)
    asyncio.run(told.run(load(told.waits_before_its_yield)))
    assert told.told == ["cancelled"]


def test_initialize_node_refuses_a_lifespan() -> None:
    hooks = load((sync_span, "on_before_init", {"until": "on_shutdown"}))
    config = Config(hooks=[hooks])
    with pytest.raises(HookLoadError, match="sync_span at on_before_init, with until='on_shutdown', can never be fin"):
        asyncio.run(initialize_node(config, cluster=StubCluster()))
