"""The timing of a start that is explored: how late nodes begin, how long awaiting takes, a cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.own_task import OwnTask

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from serve_llm_hooks._node.task import NodeTask

AWAITS_S = 0.001
"""The time that an await takes besides: hooks of nodes that begin together come in between each other's awaits."""

_HOOK = OwnTask._run.__code__
_awaits_s: ContextVar[float] = ContextVar("_awaits_s", default=0.0)


@dataclass(frozen=True)
class Timing:
    """The times of one start, in virtual seconds.

    Attributes:
        begins_s: by node, how long it takes until its work begins.
        awaits_s: by node, how long what an async hook awaits takes besides; else ``AWAITS_S``. The replica is on
            ``node-0``.
        cancelled_after_s: when the start is cancelled; ``None`` if it is not.
        dies_after_s: when the replica's process dies, once; ``None`` if it does not.
    """

    begins_s: Mapping[str, float] = field(default_factory=dict)
    awaits_s: Mapping[str, float] = field(default_factory=dict)
    cancelled_after_s: float | None = None
    dies_after_s: float | None = None

    def call_at_death(self, die: Callable[[], object]) -> None:
        """Call a function when the replica's process is to die; not again in the starts after that."""
        loop = asyncio.get_running_loop()
        if self.dies_after_s is not None and self.dies_after_s > loop.time():
            loop.call_at(self.dies_after_s, die)

    async def begin(self, task: NodeTask) -> None:
        """Wait until the work on a node begins."""
        if not task.after_engine:
            await asyncio.sleep(self.begins_s.get(task.node_id, 0.0))

    def apply(self, node_id: str) -> None:
        """Let hooks on a node take their time, in the running event loop and the current context."""
        asyncio.get_running_loop().set_task_factory(make_task)
        _awaits_s.set(self.awaits_s.get(node_id, AWAITS_S))


def context_on_node(timing: Timing | None, node_id: str) -> Context:
    """Return the context of a node's work: context variables of the replica do not reach it."""
    context = Context()
    if timing is not None:
        context.run(timing.apply, node_id)
    return context


class StartCancelledError(Exception):
    """The start was cancelled, as its timing says.

    Attributes:
        at_s: when.
    """

    def __init__(self, at_s: float) -> None:
        super().__init__(at_s)
        self.at_s: float = at_s

    def __str__(self) -> str:
        return f"the start was cancelled after {self.at_s:g} s"


class Cancelling:
    """Cancels the current task when a timing says so. Use as a context manager around what is cancelled."""

    def __init__(self, timing: Timing | None) -> None:
        loop = asyncio.get_running_loop()
        self.at_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        when_s = None if timing is None else timing.cancelled_after_s
        task = asyncio.current_task()
        if when_s is not None and when_s >= loop.time() and task is not None:  # else it was an earlier start that was
            self._timer = loop.call_at(when_s, self._cancel, task)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        self.at_s = asyncio.get_running_loop().time()
        task.cancel()

    def stop(self) -> None:
        """Cancel nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def error(self) -> StartCancelledError | None:
        """Return what a start has failed with that was cancelled; ``None`` if nothing here has cancelled it."""
        return None if self.at_s is None else StartCancelledError(self.at_s)


def make_task(
    loop: asyncio.AbstractEventLoop, coro: Any, *, context: Context | None = None, **more: Any
) -> asyncio.Task[Any]:
    """Return a task, as a task factory does; one that runs a hook takes its time."""
    seconds = _awaits_s.get() if context is None else context.get(_awaits_s, 0.0)
    if seconds and getattr(coro, "cr_code", None) is _HOOK:
        coro = SlowCoroutine(coro, loop, seconds)
    return asyncio.Task(coro, loop=loop, context=context, **more)


class SlowCoroutine(Coroutine[Any, Any, Any]):
    """A coroutine in which whatever is awaited takes some time besides, so that others come in between.

    It looks like the coroutine that it drives, so that messages find the line at which that waits.
    """

    def __init__(self, inner: Any, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._inner = inner
        self._loop = loop
        self._seconds = seconds
        self._takes_time = False  # something was awaited, and has ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __await__(self) -> Generator[Any, Any, Any]:
        raise NotImplementedError("only a task drives this")

    def send(self, value: Any) -> Any:
        """Go on; before that, wait a little."""
        if self._takes_time:
            self._takes_time = False
            pause = self._loop.create_future()
            self._loop.call_later(self._seconds, _end, pause)
            return next(pause.__await__())
        awaited = self._inner.send(value)
        self._takes_time = True
        return awaited

    def throw(self, *error: Any) -> Any:
        """Raise at the line that waits: what is awaited has failed, or is cancelled."""
        self._takes_time = False
        awaited = self._inner.throw(*error)
        self._takes_time = True
        return awaited

    def close(self) -> None:
        """Close the coroutine."""
        self._inner.close()


def _end(pause: asyncio.Future[None]) -> None:
    if not pause.done():
        pause.set_result(None)
