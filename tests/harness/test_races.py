"""The clock does not go on although something has just begun: each race is lost on purpose, at the same place."""

from __future__ import annotations

import asyncio
import select
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serve_llm_hooks import CallbackCtx
    from serve_llm_hooks_testing import FakeRun


def start(hook: Callable[..., Any]) -> FakeRun:
    """Start a replica with one hook, which alone takes time."""
    hooks = HookRegistry()
    hooks.hook("on_before_init")(hook)
    cluster = FakeCluster(nodes=1, download_s=0, engine_start_s=0, real_sleep_limit_s=30)
    return cluster.run(FakeLLMConfig("m", hooks=[hooks]))


def at_the_look(act: Callable[[], object]) -> None:
    """Do something once, when the running loop has found no thread at work, and has not gone on yet."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    belongings: Any = loop.clock.belongings
    look, acts = belongings.others_at_work, [act]

    def look_and_act(asleep: Any) -> Iterator[Any]:
        found = list(look(asleep))
        if not found and acts:
            acts.pop()()
        return iter(found)

    belongings.others_at_work = look_and_act


_woken = threading.Event()


async def _wait_for_an_answer(ctx: CallbackCtx) -> None:
    loop = asyncio.get_running_loop()
    threading.Thread(target=_woken.wait, daemon=True).start()  # else there is nobody to look at
    answer: asyncio.Future[str] = loop.create_future()
    at_the_look(lambda: loop.call_soon_threadsafe(answer.set_result, "in time"))
    async with asyncio.timeout(60):
        ctx.custom_data["answer"] = await answer
    _woken.set()


def test_an_answer_that_arrives_while_it_is_looked_comes_before_the_timeout() -> None:
    _woken.clear()
    run = start(_wait_for_an_answer)
    assert run.ctx is not None
    assert run.ctx.custom_data == {"answer": "in time"}
    assert run.elapsed_s == 0


def _work(loop: asyncio.AbstractEventLoop, seen: list[float]) -> None:
    _woken.wait()
    until_s = time.thread_time() + 0.02  # which is no virtual clock
    while time.thread_time() < until_s:
        pass
    seen.append(loop.time())


async def _sleep(ctx: CallbackCtx, *, blocked: bool) -> None:
    seen: list[float] = []
    thread = threading.Thread(target=_work, args=[asyncio.get_running_loop(), seen], daemon=True)
    thread.start()
    at_the_look(_woken.set)  # as by a thread that waits itself when it is looked at, and tells nobody
    if blocked:
        time.sleep(0.5)
    else:
        await asyncio.sleep(0.5)
    thread.join()
    ctx.custom_data["seen"] = seen


async def _wait(ctx: CallbackCtx) -> None:
    await _sleep(ctx, blocked=False)


async def _block(ctx: CallbackCtx) -> None:
    await _sleep(ctx, blocked=True)


@pytest.mark.parametrize("hook", [_wait, _block])
def test_a_thread_that_is_woken_while_it_is_looked_is_at_work_before_the_clock_goes_on(hook: Any) -> None:
    _woken.clear()
    run = start(hook)
    assert run.ctx is not None
    assert run.ctx.custom_data == {"seen": [0]}
    assert run.elapsed_s == 0.5


class _Late(threading.Thread):
    """A thread that a busy machine does not run at once."""

    def _bootstrap(self) -> None:
        select.select([], [], [], 0.2)
        super()._bootstrap()  # type: ignore[misc]  # threading's own, where a thread begins


def test_a_thread_that_starts_another_is_at_work_until_that_is_there() -> None:
    ended = []

    def naps(ctx: CallbackCtx) -> None:
        def nap(seconds: float) -> None:
            time.sleep(seconds)
            ended.append(seconds)

        threads = [kind(target=nap, args=(s,)) for kind, s in ((threading.Thread, 0.6), (_Late, 0.2), (_Late, 0.4))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run = start(naps)
    assert ended == [0.2, 0.4, 0.6]
    assert run.elapsed_s == 0.6
