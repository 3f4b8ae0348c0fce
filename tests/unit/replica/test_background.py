"""Hooks in the background, on the smallest cluster: who is cancelled when, and what is told of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookError, HookRegistry, ServeLLMHooksError, initialization
from tests.unit.stub import Config, StubCluster

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Starts:
    """A start that goes on as its hooks say."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.hooks = HookRegistry()

    def hook(self, fn: Any, point: Any, **options: Any) -> None:
        decorate: Any = self.hooks.hook  # a test may give it any function
        decorate(point, **options)(fn)

    async def run(self) -> None:
        async with initialization(Config(), cluster=StubCluster(), hooks=self.hooks) as run:
            self.ctx = run.ctx


BACKGROUND = "serve-llm-hooks background"


@pytest.fixture
def starts() -> Iterator[Starts]:
    yield Starts()
    for thread in threading.enumerate():
        if thread.name == BACKGROUND:
            thread.join(5)  # it has nothing left to do
            assert not thread.is_alive()


def test_it_runs_in_a_loop_of_its_own(starts: Starts) -> None:
    loops: list[Any] = []

    async def background(ctx: Any) -> None:
        loops.append(asyncio.get_running_loop())
        ctx.custom_data["told"] = threading.current_thread().name

    async def foreground(ctx: Any) -> None:
        loops.append(asyncio.get_running_loop())

    starts.hook(background, "on_before_init", until="on_after_init")
    starts.hook(foreground, "on_after_init")
    asyncio.run(starts.run())
    assert loops[0] is not loops[1]
    assert starts.ctx.custom_data["told"] == BACKGROUND
    assert [event.name for event in starts.ctx.trace] == ["background", "foreground"]


def test_a_start_that_is_cancelled_cancels_it(starts: Starts) -> None:
    begun = threading.Event()

    async def background(ctx: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            starts.told.append("cancelled")

    async def span(ctx: Any) -> AsyncIterator[None]:
        try:
            yield
        finally:
            starts.told.append("span")

    starts.hook(span, "on_before_init")
    starts.hook(background, "on_before_init", until="on_after_init")

    async def main() -> None:
        task = asyncio.create_task(starts.run())
        await asyncio.to_thread(begun.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert starts.told == ["cancelled", "span"]


def test_its_failure_is_the_start_s_and_leaves_no_cancellation(starts: Starts) -> None:
    async def background(ctx: Any) -> None:
        raise OSError("nothing there")

    async def waits(ctx: Any) -> None:
        await asyncio.sleep(1000)

    starts.hook(background, "on_before_init", until="on_after_init")
    starts.hook(waits, "on_before_download")

    async def main() -> None:
        with pytest.raises(HookError, match=r"background failed at on_before_init.*nothing there") as caught:
            await starts.run()
        assert isinstance(caught.value.__cause__, OSError)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(main())


def test_a_failure_while_it_is_cancelled_is_logged(starts: Starts, caplog: pytest.LogCaptureFixture) -> None:
    begun = threading.Event()

    async def background(ctx: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(1000)
        finally:
            raise OSError("in the background")

    def foreground(ctx: Any) -> None:
        begun.wait()
        raise KeyError("in front")

    starts.hook(background, "on_before_init", until="on_after_init")
    starts.hook(foreground, "on_before_download")
    with caplog.at_level(logging.ERROR, "serve_llm_hooks"), pytest.raises(HookError, match="in front"):
        asyncio.run(starts.run())
    assert "in the background (the first error is raised)" in caplog.text


def test_what_it_leaves_at_work_ends_with_the_start(starts: Starts) -> None:
    async def forever() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            starts.told.append("cancelled")

    async def background(ctx: Any) -> None:
        ctx.custom_data["task"] = asyncio.create_task(forever())
        await asyncio.sleep(0)

    starts.hook(background, "on_before_init", until="on_before_engine_init")
    asyncio.run(starts.run())
    assert starts.told == ["cancelled"]


def test_a_generator_that_a_wrapper_hides_is_told_of(starts: Starts) -> None:
    def background(ctx: Any) -> Any:
        made = (each for each in [1])
        return made

    starts.hook(background, "on_before_init", until="on_after_init")
    with pytest.raises(HookError, match="it has a `yield` that its wrapper hides"):
        asyncio.run(starts.run())


def test_one_that_cancels_all_around_it_is_told_of(starts: Starts) -> None:
    async def background(ctx: Any) -> None:
        for task in asyncio.all_tasks():
            task.cancel()
        await asyncio.sleep(1000)

    starts.hook(background, "on_before_init", until="on_after_init")
    with pytest.raises(ServeLLMHooksError, match="background at on_before_init was cancelled by what runs beside it"):
        asyncio.run(starts.run())


def test_it_changes_no_runtime_env(starts: Starts) -> None:
    def background(ctx: Any) -> None:
        ctx.runtime_env["env_vars"] = {}

    def foreground(ctx: Any) -> None:
        ctx.runtime_env = {"working_dir": "."}

    starts.hook(foreground, "on_before_init")
    starts.hook(background, "on_before_init", until="on_after_init")
    with pytest.raises(HookError, match=r"ctx.runtime_env cannot be changed by a hook that works in the background"):
        asyncio.run(starts.run())
