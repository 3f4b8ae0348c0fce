"""The event loop of a start that is explored: threads take turns, and what is left running is seen."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from .._simulation.process import process_in
from .._simulation.simulated_cluster import SimulatedCluster
from .._simulation.timing import make_task
from .._virtual_time.locations import locate_awaitable
from .._virtual_time.loop import VirtualLoop
from .._virtual_time.threads import HookThread
from ..errors import DeadlockError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from concurrent.futures import Executor
    from contextvars import Context

    from serve_llm_hooks._node.task import NodeReport, NodeTask

    from .._simulation.process import SimulatedProcess
    from .._virtual_time.job import Job
    from .._virtual_time.locations import HookLocation
    from .._virtual_time.sleeper import Sleeper
    from .._virtual_time.waiting import Events

# Virtual seconds that what a start has left running has to end by itself; sync hooks, which nobody can stop, have more.
_SETTLE_S = 30.0
_SETTLE_SYNC_S = 3600.0


# Virtual seconds that async hooks may block the event loop, which nodes share here: one may wait for another.
_BLOCKED_S = 60.0


class Remains:
    """The hooks that have left something running.

    Attributes:
        on_nodes: those whose tasks had not ended when the work of their node had.
        in_replica: those whose tasks had not ended some time after the start had.
        stubborn: those that went on although they were cancelled.
    """

    def __init__(self) -> None:
        self.on_nodes: list[HookLocation] = []
        self.in_replica: list[HookLocation] = []
        self.stubborn: list[HookLocation] = []


class ExploringLoop(VirtualLoop):
    """An event loop in virtual time in which a start goes the same way each time.

    What is due together in several threads (sync hooks of several nodes, ``asyncio.to_thread``) has no order; here the
    next begins when the one before it has ended, or sleeps.

    Args:
        remains: gets what is left running.
    """

    def __init__(self, remains: Remains, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._remains = remains
        self._queue: deque[Callable[[], object]] = deque()
        self._submit = self._work.submit
        self._work.submit = self._submit_in_turn  # type: ignore[method-assign, assignment]  # of this one loop
        self._is_held_up = self._work._is_held_up
        self._work._is_held_up = self._is_held_up_by_turns  # type: ignore[method-assign]  # of this one loop
        self._blocked_s = 0.0
        self._is_last_chance = False
        self._process_of: WeakKeyDictionary[asyncio.Task[Any], SimulatedProcess[Any] | None] = WeakKeyDictionary()
        super().set_task_factory(self._make_task)

    def set_task_factory(self, factory: Any) -> None:
        """Do nothing: this loop has one, which does what a timing's does, too."""

    def wait(self, timeout_s: float | None) -> Events:
        """Begin the next call in a thread, if none is at work; then wait as ever."""
        self._begin_next()
        return super().wait(timeout_s)

    def advance_to(self, when_s: float | None) -> None:
        """Advance the clock, unless a thread has gone to sleep just now, and the next call can begin."""
        if not self._begin_next():
            super().advance_to(when_s)

    def finish(self) -> None:
        """See what is left running; then close the loop."""
        if not self.is_closed():
            with suppress(DeadlockError):  # the run has failed with it already
                self.run_until_complete(self._settle())
        super().finish()

    def run_in_executor(  # type: ignore[override]  # typeshed has TypeVarTuples
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Call a function in a worker thread when it is its turn, or in a process of a pool."""
        if executor is not None and not isinstance(executor, ThreadPoolExecutor):
            return super().run_in_executor(executor, func, *args)
        call = super().run_in_executor
        outer: asyncio.Future[Any] = self.create_future()

        def begin() -> None:
            if not outer.cancelled():
                call(executor, func, *args).add_done_callback(partial(_pass_on, outer))

        self._queue.append(begin)
        self._begin_next()
        return outer

    def _sleep_in_own_thread(self, sleeper: Sleeper) -> None:
        """Sleep where a hook blocks the loop.

        Raises:
            DeadlockError: it does so all the time.
        """
        begin_s = self.now_s
        super()._sleep_in_own_thread(sleeper)
        self._blocked_s += self.now_s - begin_s
        if self._blocked_s > _BLOCKED_S:
            raise DeadlockError(
                f"async hooks block the event loop for more than {_BLOCKED_S:g} s: no timeout fires meanwhile, and the "
                "replica answers nobody. Make a hook that sleeps a plain def, or await asyncio.sleep()"
            )

    def _submit_in_turn(self, *call: Any) -> None:
        self._queue.append(partial(self._submit, *call))
        self._begin_next()

    def _begin_next(self) -> bool:
        """Begin the next call in a thread, if none is at work. Return whether one has begun."""
        if not self._queue or any(self._is_at_work(job) for job in tuple(self.clock.belongings.jobs)):
            return False
        self._queue.popleft()()
        return True

    def _is_at_work(self, job: Job) -> bool:
        if job.ended or job.is_reported or not job.is_awaited:
            return False
        sleeper = self.clock.asleep.get(job.thread_id) if job.started else None
        return sleeper is None or sleeper.is_awake

    def _is_held_up_by_turns(self, until_s: float | None, sockets: Iterable[int]) -> bool:
        """Return whether the clock has to wait; also where it need not go on for the next thread that wakes up."""
        if until_s is None and not self._work.is_pending():  # nothing will happen, unless some library's thread does it
            self._is_last_chance = not self._is_last_chance
            return self._is_last_chance
        if until_s is not None and until_s == self.now_s:
            until_s = math.nextafter(until_s, math.inf)
        return self._is_held_up(until_s, sockets)

    def _make_task(self, loop: Any, coro: Any, *, context: Context | None = None, **more: Any) -> asyncio.Task[Any]:
        task = make_task(loop, coro, context=context, **more)
        self._process_of[task] = process_in(context)
        return task

    def see_left_on_node(self) -> None:
        """See what the hooks of a node have left running, whose work is done in the current task."""
        own = asyncio.current_task()
        process = process_in(None)
        for task, owner in tuple(self._process_of.items()):
            if owner is process and task is not own and not task.done() and not task.cancelling():
                self._add(self._remains.on_nodes, task)

    async def _settle(self) -> None:
        """Let go on what is still running; then see what does not end."""
        end_s, last_s = self.now_s + _SETTLE_S, self.now_s + _SETTLE_SYNC_S
        while self.now_s < end_s and any(True for _ in self._running()):
            await asyncio.sleep(1.0)
        for task in self._running():
            self._add(self._remains.stubborn if task.cancelling() else self._remains.in_replica, task)
        while self.now_s < last_s and any(isinstance(job.lane, HookThread) for job in self.clock.belongings.jobs):
            await asyncio.sleep(10.0)

    def _running(self) -> Any:
        own = asyncio.current_task()
        for task, process in tuple(self._process_of.items()):
            if process is not None and process.is_over:  # it does not go on
                continue
            if task is not own and not task.done() and locate_awaitable(task.get_coro()) is not None:
                yield task

    def _add(self, places: list[HookLocation], task: asyncio.Task[Any]) -> None:
        location = locate_awaitable(task.get_coro())
        if location is not None:
            places.append(location)


class ExploredCluster(SimulatedCluster):
    """A cluster on whose nodes it is seen what is left running when their work has succeeded."""

    async def node_work(self, task: NodeTask, environ: Mapping[str, str]) -> NodeReport:
        """Do the work of a node."""
        report = await super().node_work(task, environ)
        loop = asyncio.get_running_loop()
        if report.failure is None and isinstance(loop, ExploringLoop):
            loop.see_left_on_node()
        return report


def _pass_on(outer: asyncio.Future[Any], inner: asyncio.Future[Any]) -> None:
    """Give the result of a call to who waits for it, unless nobody does any more."""
    if inner.cancelled():
        outer.cancel()
    elif (error := inner.exception()) is not None:
        if not outer.done():
            outer.set_exception(error)
    elif not outer.done():
        outer.set_result(inner.result())
