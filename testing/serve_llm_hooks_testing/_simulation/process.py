"""Simulated processes: the replica's, and the worker of each node. A fault may kill one."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from serve_llm_hooks._replica.gather import POLITE_CANCEL_S

from .._apart.state import enter_process
from .._virtual_time.loop import VirtualLoop
from .._virtual_time.system_clocks import current_clock

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from serve_llm_hooks import HookName

    from .._apart.state import ProcessState

ResultT = TypeVar("ResultT")

# As in production: how long tasks that a node's hooks have left may clean up, and threads may work on.
_LEFT_TASKS_S = 1.0
_LEFT_THREADS_S = 10.0

_current: ContextVar[SimulatedProcess[Any]] = ContextVar("_current")


class SimulatedProcess(Generic[ResultT]):
    """A task that stands for a process, and that stops like a killed one when :func:`die` is called in it.

    Args:
        main: its work.
        context: the context variables that it begins with.
        state: what it has to itself; ``None`` in a process that is a real one.
    """

    def __init__(self, main: Coroutine[Any, Any, ResultT], context: Context, state: ProcessState | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.died_at: HookName | None = None  # at this hook point
        self._death: asyncio.Future[None] = loop.create_future()
        self._state = state
        context.run(_current.set, self)
        context.run(enter_process, state)
        self._task = loop.create_task(main, context=context)

    async def wait(self) -> ResultT | None:
        """Wait until its work ends, and return the result; ``None`` if the process has died.

        A dead process does nothing more until :meth:`kill`, so its trace is that of a killed one. Cancelling the
        caller cancels the task of the process; what does not stop then is killed, as in production.
        """
        while not self._task.done() and not self._death.done():
            try:
                await asyncio.wait((self._task, self._death), return_when=asyncio.FIRST_COMPLETED)
            except asyncio.CancelledError:
                self._task.cancel()
                await asyncio.wait((self._task,), timeout=POLITE_CANCEL_S)
                self.kill()
                raise
        return None if self._death.done() else self._task.result()

    @property
    def is_over(self) -> bool:
        """``True`` if nothing of it goes on any more."""
        return self._state is not None and self._state.is_over

    def die(self) -> None:
        """Let it die, wherever it is."""
        if not (self._task.done() or self._death.done()):
            self._death.set_result(None)

    def kill(self) -> None:
        """End it at once. What its hooks would do when they are cancelled, they do when the run is over."""
        if self._state is None:
            self._task.cancel()
        else:
            self._end()

    def _end(self) -> None:
        loop, clock = asyncio.get_running_loop(), current_clock()
        assert self._state is not None
        assert clock is not None
        if isinstance(loop, VirtualLoop):
            loop.end_process(self._state)
        else:  # that of the background, which cancels what is left in it
            self._state.end()
        clock.wake_the_dead()


class NodeProcess(SimulatedProcess[ResultT]):
    """The process of a node's task, which ends with it: tasks that hooks have left are cancelled, threads end."""

    def __init__(self, main: Coroutine[Any, Any, ResultT], context: Context, state: ProcessState) -> None:
        super().__init__(_then_end_tasks(main, state), context, state)
        self._node_state = state
        self._task.add_done_callback(lambda _: main.close())  # else Python complains of one that was not begun

    async def wait(self) -> ResultT | None:
        """Wait until its work ends; end the process when Python would wait for its threads no more."""
        result = await super().wait()
        if self.died_at is None and not self._ends_at_once():
            loop = asyncio.get_running_loop()
            self._node_state.on_thread_end = partial(loop.call_soon_threadsafe, self._ends_at_once)
            loop.call_later(_LEFT_THREADS_S, self._end)
            self._ends_at_once()  # the last thread may have ended meanwhile
        return result

    def _ends_at_once(self) -> bool:
        if not self._node_state.ends_at_once():
            return False
        self._end()
        return True


async def _then_end_tasks(work: Coroutine[Any, Any, ResultT], state: ProcessState) -> ResultT:
    try:
        return await work
    finally:
        await state.end_tasks(_LEFT_TASKS_S)


def process_in(context: Context | None) -> SimulatedProcess[Any] | None:
    """Return the process that a context is of; ``None`` if it is of none. Without one, the current context."""
    return _current.get(None) if context is None else context.get(_current, None)


async def die(ctx: Any, *, point: HookName) -> None:
    """Kill the current process. A hook, which never returns, so that nothing that comes after it runs."""
    process = _current.get()
    process.died_at = point
    process._death.set_result(None)
    await asyncio.Event().wait()
