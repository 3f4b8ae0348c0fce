"""``LoopThread``: an event loop in a thread of its own, which goes on while another one is blocked."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

_CANCEL_S = 10.0  # how long what is cancelled may take; as for nodes


class LoopThread:
    """An event loop in a daemon thread, so that a hook that hangs keeps no process alive.

    Attributes:
        ended: done when the thread has ended.
    """

    def __init__(self) -> None:
        self.ended: Future[None] = Future()
        self._loop = asyncio.new_event_loop()
        self._at_work: set[asyncio.Task[Any]] = set()
        self._not_begun: dict[Coroutine[Any, Any, None], Coroutine[Any, Any, None]] = {}  # with what runs it
        threading.Thread(target=self._run, name="serve-llm-hooks background", daemon=True).start()

    def submit(self, work: Coroutine[Any, Any, None]) -> Future[None]:
        """Run a coroutine in the loop."""
        running = self._not_begun[work] = self._run_to_its_end(work)
        try:
            return asyncio.run_coroutine_threadsafe(running, self._loop)
        except RuntimeError:  # the loop is closed
            self._close_what_has_not_begun()
            raise

    async def _run_to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        self._not_begun.pop(work, None)
        task = asyncio.current_task()
        assert task is not None
        self._at_work.add(task)
        try:
            await work
        finally:
            self._at_work.discard(task)

    async def cancel(self) -> None:
        """Cancel what was submitted. Run in this loop, by :meth:`submit`."""
        await _cancel({task for task in self._at_work if task is not asyncio.current_task()})

    def stop(self) -> None:
        """Cancel what is left in the loop, and let the thread end."""
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self) -> None:
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(_cancel(asyncio.all_tasks(self._loop)))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            self._loop.close()
            self._close_what_has_not_begun()
            self.ended.set_result(None)

    def _close_what_has_not_begun(self) -> None:
        """Close it, so that Python does not complain that nobody awaits it."""
        for work in tuple(self._not_begun):
            self._not_begun.pop(work).close()
            work.close()


async def _cancel(tasks: set[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_CANCEL_S)
