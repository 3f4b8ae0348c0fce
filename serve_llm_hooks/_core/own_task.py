"""``OwnTask``: await what a hook gives in a task of its own. One that cancels "its" task ends itself, not the start."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import Context, ContextVar, Token, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import reraise_if_not_a_failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

ResultT = TypeVar("ResultT")

# An async hook with a timeout has this long to clean up when it is cancelled.
_CANCEL_GRACE_S = 1.0

_UNSET = object()


class HookVariables:
    """The context variables that async hooks see: one context for all, so that one can reset what another has set."""

    def __init__(self) -> None:
        self._context = Context()
        self._callers = Context()  # as they were after the last hook
        self._tokens: dict[ContextVar[Any], Token[Any]] = {}  # of those that the caller has from hooks alone

    @property
    def context(self) -> Context:
        """The context, for a task that an async hook leaves behind."""
        return self._context

    def with_the_callers(self) -> Context:
        """Return the context for the next hook, with what the caller has set since the last one."""
        for variable, value in copy_context().items():
            if self._callers.get(variable, _UNSET) is not value:
                self._context.run(variable.set, value)
        return self._context

    def give_to_the_caller(self) -> None:
        """Let the caller, and with it sync hooks and the engine, have what a hook has set or reset."""
        for variable, value in self._context.items():
            if variable.get(_UNSET) is not value:
                token = variable.set(value)
                if token.old_value is Token.MISSING:
                    self._tokens[variable] = token
        for variable in [each for each in self._tokens if each not in self._context]:
            with contextlib.suppress(ValueError):  # the caller is another one by now, which does not have it
                variable.reset(self._tokens.pop(variable))
        self._callers = copy_context()


class OwnTask:
    """A call whose awaitable is awaited in a task of its own.

    Args:
        call: returns what is to be awaited; called in the task too.
        variables: the context variables of the task, shared with other hooks and the caller.

    Attributes:
        result: what the awaitable returned.
        error: what it raised.
    """

    def __init__(self, call: Callable[[], Awaitable[Any]], variables: HookVariables) -> None:
        self.result: Any = None
        self.error: BaseException | None = None
        self._variables = variables
        self._running = self._run(call)
        context = variables.with_the_callers()
        self._task = asyncio.get_running_loop().create_task(self._running, context=context)

    async def ends_within(self, timeout_s: float | None) -> bool:
        """Wait for its end, for at most so long; return False if it did not come, and was cancelled.

        Unlike ``asyncio.timeout``, this does not wait for one that ignores its cancellation.

        Raises:
            CancelledError: the caller's task is cancelled, or this one has cancelled itself.
        """
        task, caller = self._task, asyncio.current_task()
        cancelled_before = 0 if caller is None else caller.cancelling()
        try:
            if timeout_s is None:
                await task  # hands on each cancellation of the caller's, and then waits for the end
                if caller is not None and caller.cancelling() > cancelled_before and self.error is None:
                    raise asyncio.CancelledError  # the hook has caught it, to clean up, and has ended well
            else:
                await asyncio.wait({task}, timeout=timeout_s)
                if task.cancelled():
                    await task
        except asyncio.CancelledError:
            if not task.done():
                await self._end(None if timeout_s is None else _CANCEL_GRACE_S)
            raise
        except GeneratorExit:  # the caller is closed from outside, and perhaps no event loop is left to cancel this one
            self._running.close()
            raise
        if not task.done():
            await self._end(_CANCEL_GRACE_S)
            return False
        self._variables.give_to_the_caller()
        return True

    @property
    def cancelled_itself(self) -> bool:
        """True if something has cancelled the task, unless that was the caller."""
        return self._task.cancelling() > 0

    async def _run(self, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            self.result = await call()
        except BaseException as error:  # raised here, a sys.exit would end the event loop
            reraise_if_not_a_failure(error)
            self.error = error

    async def _end(self, within_s: float | None) -> None:
        self._task.cancel()
        await asyncio.wait({self._task}, timeout=within_s)


async def in_a_task_of_its_own(
    work: Coroutine[Any, Any, ResultT],
) -> tuple[asyncio.Task[ResultT], asyncio.CancelledError | None]:
    """Run to the end, so that a hook that cancels the task which it runs in does not cancel what reports it.

    Returns:
        The ended task, and how this one was cancelled, which is passed on to it.
    """
    running = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not running.done():
        try:
            await asyncio.wait({running})
        except asyncio.CancelledError as error:
            cancelled = error
            running.cancel()
    return running, cancelled
