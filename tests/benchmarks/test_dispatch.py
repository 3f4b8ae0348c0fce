"""What a hook costs, beside a bare loop, pluggy, blinker and Ray's own callbacks. `make bench` reads the ratios.

Every side is measured in turn, many times over, and the ratios are taken within each turn: a machine that changes its
speed from one second to the next changes that of all sides alike. The other sides are written as they are fastest.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import time
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, Final

import pytest

from serve_llm_hooks import HookRegistry, Trace
from serve_llm_hooks._core.call_loop import call_each
from serve_llm_hooks._core.dispatch import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable

TURNS = int(os.environ.get("BENCH_TURNS", "15"))
POINT: Final = "on_before_init"


def no_ops(count: int) -> list[Callable[[object], None]]:
    """As many functions as that, each with its own code, as hooks have."""
    namespace: dict[str, Any] = {}
    for index in range(count):
        exec(f"def hook_{index}(ctx): pass", namespace)
    return [namespace[f"hook_{index}"] for index in range(count)]


def bare_loop(count: int) -> Callable[[], object]:
    calls, ctx = no_ops(count), object()

    def run(calls: Any = calls, ctx: object = ctx) -> None:  # in locals, which are read faster than what is enclosed
        for call in calls:
            call(ctx)

    return run


def record_each(
    calls: list[Callable[[object], object]], ctx: object, times: list[float], clock: Callable[[], float]
) -> None:
    """Do the least that a trace with a time for each hook can take. It is called as ours is, which a thread calls.

    A hook starts when the one before it ends, so one reading of the clock for each is enough, and it has to be kept.
    Which hooks these are is known beforehand. `times.append` is written out, as CPython runs it fastest.
    """
    for call in calls:
        call(ctx)
        times.append(clock())


def recording_loop(count: int) -> Callable[[], object]:
    return traced(record_each, count)


def ours(count: int) -> Callable[[], object]:
    """Do what happens in the worker thread. (When the first hook starts is noted before, on the event loop.)"""
    return traced(call_each, count)


def traced(loop: Callable[..., object], count: int) -> Callable[[], object]:
    calls, ctx = no_ops(count), object()

    def run(
        loop: Any = loop, calls: Any = calls, ctx: object = ctx, clock: Callable[[], float] = time.perf_counter
    ) -> object:
        return loop(calls, ctx, [0.0], clock)

    return run


def ours_untraced(count: int) -> Callable[[], object]:
    calls, ctx, clock = no_ops(count), object(), time.perf_counter
    return lambda: call_each(calls, ctx, None, clock)


def with_pluggy(count: int) -> Callable[[], object]:
    pluggy = importlib.import_module("pluggy")
    manager = pluggy.PluginManager("bench")
    spec, impl = pluggy.HookspecMarker("bench"), pluggy.HookimplMarker("bench")

    class Spec:
        @spec  # type: ignore[untyped-decorator]  # pluggy is imported by name
        def event(self, ctx: object) -> None: ...

    manager.add_hookspecs(Spec)
    for call in no_ops(count):  # static: a bound method costs more to call
        manager.register(type("Plugin", (), {"event": staticmethod(impl(call))})())
    ctx = object()
    return lambda: manager.hook.event(ctx=ctx)


def with_blinker(count: int) -> Callable[[], object]:
    signal = importlib.import_module("blinker").Signal()
    receivers = no_ops(count)
    for receiver in receivers:
        signal.connect(receiver)
    return lambda: signal.send(receivers)


def with_ray(count: int) -> Callable[[], object]:
    base = pytest.importorskip("ray.llm._internal.common.callbacks.base", reason="Ray is not installed")

    class Callback(base.CallbackBase):  # type: ignore[misc,name-defined]  # imported by name
        def event(self) -> None: ...

    callback = Callback(llm_config=None)
    return lambda: callback.run_callback_sync("event")


SIDES: dict[str, Callable[[int], Callable[[], object]]] = {
    "loop": bare_loop,
    "recording_loop": recording_loop,
    "ours": ours,
    "ours_untraced": ours_untraced,
    "pluggy": with_pluggy,
    "blinker": with_blinker,
    "ray": with_ray,
}
CASES = [
    (side, count)
    for count in (1, 10, 100)
    for side in SIDES
    if (side, count) not in {("blinker", 1), ("blinker", 100), ("ray", 10), ("ray", 100)}
]


@pytest.mark.parametrize(("side", "count"), CASES)
@pytest.mark.parametrize("turn", range(TURNS))
def test_dispatch(benchmark: Any, side: str, count: int, turn: int) -> None:
    run = SIDES[side](count)
    benchmark.pedantic(run, rounds=50, iterations=max(1, 1000 // count), warmup_rounds=5)


@pytest.mark.parametrize("side", ["ours", "to_thread"])
@pytest.mark.parametrize("turn", range(TURNS))
def test_point(benchmark: Any, side: str, turn: int) -> None:
    """One point with one sync hook, from the event loop and back; a hundred of them."""
    loop = asyncio.new_event_loop()
    registry = HookRegistry()
    (call,) = no_ops(1)
    registry.hook(POINT)(call)
    hooks, ctx = registry.hooks(POINT), object()

    async def with_dispatcher() -> None:
        async with Dispatcher("m", trace=Trace()) as dispatcher:
            for _ in range(100):
                await dispatcher.run_point(hooks, ctx)

    async def with_to_thread() -> None:
        for _ in range(100):
            await asyncio.to_thread(call, ctx)

    side_of = {"ours": with_dispatcher, "to_thread": with_to_thread}[side]
    try:
        benchmark.pedantic(lambda: loop.run_until_complete(side_of()), rounds=6, warmup_rounds=1)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class AtOnce(Executor):
    """Calls in the event loop's own thread: no hop."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


@pytest.mark.parametrize("count", [10, 100])
@pytest.mark.parametrize("side", ["ours"])
@pytest.mark.parametrize("turn", range(TURNS))
def test_whole_point(benchmark: Any, side: str, count: int, turn: int) -> None:
    """A point with so many sync hooks, all that happens on the event loop included; a hundred of them."""
    loop = asyncio.new_event_loop()
    registry = HookRegistry()
    for call in no_ops(count):
        registry.hook(POINT)(call)
    hooks, ctx = registry.hooks(POINT), object()

    async def points() -> None:
        async with Dispatcher("m", trace=Trace()) as dispatcher:
            dispatcher._worker = AtOnce()  # type: ignore[assignment]  # an executor as well
            for _ in range(100):
                await dispatcher.run_point(hooks, ctx)

    try:
        benchmark.pedantic(lambda: loop.run_until_complete(points()), rounds=6, warmup_rounds=1)
    finally:
        loop.close()


@pytest.mark.parametrize("side", ["ours", "pluggy"])
@pytest.mark.parametrize("turn", range(5))
def test_register_1000(benchmark: Any, side: str, turn: int) -> None:
    """Register a thousand hooks, and resolve their order."""
    pluggy = importlib.import_module("pluggy")
    spec, impl = pluggy.HookspecMarker("bench"), pluggy.HookimplMarker("bench")

    class Spec:
        @spec  # type: ignore[untyped-decorator]  # pluggy is imported by name
        def event(self, ctx: object) -> None: ...

    def our_functions() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (no_ops(1000),), {}

    def register_ours(functions: list[Any]) -> object:
        registry = HookRegistry()
        for function in functions:
            registry.hook(POINT)(function)
        return registry.hooks(POINT)

    def its_plugins() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ([type("Plugin", (), {"event": staticmethod(impl(function))})() for function in no_ops(1000)],), {}

    def register_its(plugins: list[Any]) -> object:
        manager = pluggy.PluginManager("bench")
        manager.add_hookspecs(Spec)
        for plugin in plugins:
            manager.register(plugin)
        return manager.hook.event.get_hookimpls()

    setup, run = {"ours": (our_functions, register_ours), "pluggy": (its_plugins, register_its)}[side]
    assert len(benchmark.pedantic(run, setup=setup, rounds=5)) == 1000
