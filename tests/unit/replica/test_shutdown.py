"""``on_shutdown``: after a good start, once, within the time that is left."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    HookError,
    HookLoadError,
    HookTimeoutError,
    RayServeLLMCallback,
    ServeLLMHooksError,
    hook,
    initialization,
)
from tests.unit.stub import Config, Failed, FullConfig, StubCluster, run, start

if TYPE_CHECKING:
    from serve_llm_hooks._replica.initialize import Initialization


class Ended:
    """A replica that was started and stopped."""

    def __init__(self, run: Initialization, failures: tuple[Exception, ...], took_s: float) -> None:
        self.ctx = run.ctx
        self.failures = failures
        self.took_s = took_s

    @property
    def events(self) -> list[tuple[str, str]]:
        """The hooks at the end, and how each ended."""
        return [(event.name, event.outcome) for event in self.ctx.trace if event.point == "on_shutdown"]


async def shut_down(config: Any, budget_s: float = 16.0) -> Ended:
    async with initialization(config, cluster=StubCluster()) as run:
        run.engine = "the engine"
    before_s = asyncio.get_running_loop().time()
    failures = await run.shut_down(budget_s)
    return Ended(run, failures, asyncio.get_running_loop().time() - before_s)


def stopped(*hooks: Any, budget_s: float = 16.0) -> Ended:
    """Start a replica with these hooks, and stop it."""
    return run(shut_down(Config(hooks=hooks), budget_s))


def test_it_has_the_context_of_the_start_and_its_engine() -> None:
    seen: list[CallbackCtx] = []

    @hook("on_after_init")
    def register(ctx: CallbackCtx) -> None:
        ctx.custom_data["lease"] = 7

    @hook("on_shutdown")
    async def deregister(ctx: CallbackCtx) -> None:
        assert (ctx.engine, ctx.error, ctx.custom_data["lease"]) == ("the engine", None, 7)
        assert list(ctx.nodes) == ["n0", "n1", "n2"]
        seen.append(ctx)

    ended = stopped(register, deregister)
    assert seen == [ended.ctx]
    assert ended.failures == ()
    assert [event.point for event in ended.ctx.trace] == ["on_after_init", "on_shutdown"]


def test_a_class_has_its_object_at_the_end() -> None:
    class Lease(RayServeLLMCallback):
        def on_after_init(self, ctx: CallbackCtx) -> None:
            self.lease = 7

        def on_shutdown(self, ctx: CallbackCtx) -> None:
            ctx.custom_data["given back"] = self.lease

    assert run(shut_down(FullConfig(callback=Lease))).ctx.custom_data["given back"] == 7


def test_it_runs_once() -> None:
    @hook("on_shutdown")
    def count(ctx: CallbackCtx) -> None: ...

    async def twice() -> list[str]:
        async with initialization(Config(hooks=(count,)), cluster=StubCluster()) as run:
            pass
        await asyncio.gather(run.shut_down(), run.shut_down())
        await run.shut_down()
        return [event.name for event in run.trace]

    assert run(twice()) == ["count"]


def test_after_a_start_that_failed_there_is_nothing_to_end() -> None:
    @hook("on_after_init")
    def breaks(ctx: CallbackCtx) -> None:
        raise OSError

    @hook("on_shutdown")
    def never(ctx: CallbackCtx) -> None: ...

    failed = Failed()
    begun: list[Initialization] = []

    async def fail_and_stop() -> None:
        config = Config(hooks=(breaks, never, failed.hook()))
        with pytest.raises(HookError):
            async with initialization(config, cluster=StubCluster(), on_begin=begun.append):
                pass
        assert await begun[0].shut_down() == ()

    run(fail_and_stop())
    assert [event.name for event in begun[0].trace] == ["breaks", "keep"]


def test_a_start_that_is_not_over_cannot_be_ended() -> None:
    async def too_early() -> None:
        async with initialization(Config(), cluster=StubCluster()) as run:
            with pytest.raises(ServeLLMHooksError, match=r"shut_down\(\) was called while the replica is starting"):
                await run.shut_down()

    run(too_early())


# -- time and failures --------------------------------------------------------------------------------------------


def later(name: str, *, order: int = 1) -> Any:
    @hook("on_shutdown", order=order)
    def after(ctx: CallbackCtx) -> None: ...

    after.__name__ = after.__qualname__ = name
    return after


def test_each_hook_has_its_turn_whatever_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_shutdown")
    def breaks(ctx: CallbackCtx) -> None:
        raise OSError("no answer")

    @hook("on_shutdown", timeout_s=3)
    async def slow(ctx: CallbackCtx) -> None:
        await asyncio.sleep(100)

    ended = stopped(breaks, slow, later("last"))
    assert ended.events == [("breaks", "failed"), ("slow", "timed_out"), ("last", "ok")]
    assert [type(each) for each in ended.failures] == [HookError, HookTimeoutError]
    assert "no answer (the replica stops; its hooks have 16 s for that)" in caplog.text
    assert ended.took_s == 3


def test_a_hook_has_the_time_that_is_left_and_the_others_then_none(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_shutdown", timeout_s=10)
    async def five_seconds(ctx: CallbackCtx) -> None:
        await asyncio.sleep(5)

    @hook("on_shutdown", timeout_s=100, order=1)
    async def endless(ctx: CallbackCtx) -> None:
        await asyncio.sleep(1000)

    ended = stopped(five_seconds, endless, later("last", order=2))
    assert ended.events == [("five_seconds", "ok"), ("endless", "timed_out"), ("last", "skipped")]
    assert ended.took_s == 16
    assert "still running when the 16 s of the hooks at on_shutdown were over (the replica stops" in caplog.text
    assert "last at on_shutdown did not run: the 16 s of the hooks at on_shutdown were over" in caplog.text


def test_without_any_time_no_hook_runs() -> None:
    assert stopped(later("last"), budget_s=0).events == [("last", "skipped")]


def test_a_thread_that_a_hook_of_the_start_holds_is_not_the_one_at_the_end() -> None:
    let_go = threading.Event()

    @hook("on_after_init", timeout_s=0.1, on_error="warn")
    def holds(ctx: CallbackCtx) -> None:
        let_go.wait(20)

    @hook("on_shutdown")
    def last(ctx: CallbackCtx) -> None: ...

    try:
        ended = asyncio.run(shut_down(Config(hooks=(holds, last))))  # in real time: a thread that blocks
    finally:
        let_go.set()
    assert ended.events == [("last", "ok")]


def test_one_that_is_turned_off_leaves_a_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_LLM_HOOKS_DISABLE", "*:*last")
    assert [outcome for _, outcome in stopped(later("last")).events] == ["disabled"]


# -- entrances ----------------------------------------------------------------------------------------------------


def test_initialize_node_refuses_it_before_anything_happens_and_says_what_to_write() -> None:
    cluster = StubCluster()
    with pytest.raises(HookLoadError) as caught:
        start(later("last"), cluster=cluster)
    message = str(caught.value)
    assert "last at on_shutdown can never run: initialize_node() ends with the start" in message
    assert "async with initialization(config) as run" in message
    assert "await run.shut_down(budget_s=...)" in message
    assert cluster.calls == []


def test_initialize_node_refuses_none_that_is_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVE_LLM_HOOKS_DISABLE", "*:*last")
    assert start(later("last")).names == []
