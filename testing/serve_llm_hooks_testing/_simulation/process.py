"""Simulated processes: the replica's, and the worker of each node. A fault may kill one."""

from __future__ import annotations

import asyncio
import os
from contextvars import Context, ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from serve_llm_hooks._replica.gather import POLITE_CANCEL_S

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from serve_llm_hooks import HookName

ResultT = TypeVar("ResultT")

_current: ContextVar[SimulatedProcess[Any]] = ContextVar("_current")


class SimulatedProcess(Generic[ResultT]):
    """A task that stands for a process, and that stops like a killed one when :func:`die` is called in it."""

    def __init__(self, main: Coroutine[Any, Any, ResultT], context: Context) -> None:
        loop = asyncio.get_running_loop()
        self.died_at: HookName | None = None  # at this hook point
        self._death: asyncio.Future[None] = loop.create_future()
        context.run(_current.set, self)
        self._task = loop.create_task(main, context=context)

    async def wait(self) -> ResultT | None:
        """Wait until the process ends, and return its result; ``None`` if it has died.

        A dead process does nothing more until :meth:`clean_up`, so its trace is that of a killed one. Cancelling the
        caller cancels the task of the process; what does not stop then is killed, as in production.
        """
        while not self._task.done() and not self._death.done():
            try:
                await asyncio.wait((self._task, self._death), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                self._task.cancel()
                await asyncio.wait((self._task,), timeout=POLITE_CANCEL_S)
                self._task.cancel()
                raise
        return None if self._death.done() else self._task.result()

    async def clean_up(self) -> None:
        """Cancel the task of a process that has died."""
        self._task.cancel()
        await asyncio.wait((self._task,))


def node_process_id(node_index: int, *, second: bool = False) -> int:
    """Return a process id for a node's task, other than the replica's, which is this process's."""
    return os.getpid() + 1 + 2 * node_index + second


async def die(ctx: Any, *, point: HookName) -> None:
    """Kill the current process. A hook, which never returns, so that nothing that comes after it runs."""
    process = _current.get()
    process.died_at = point
    process._death.set_result(None)
    await asyncio.Event().wait()
