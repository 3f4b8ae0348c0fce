"""Spans: hooks with a ``yield``. What stands before it runs at their point, and what stands after it at a later one.

Calling such a hook gives a generator. The dispatcher runs it up to its ``yield`` as it runs a hook, and what is then
held here is finished by a ``Finish``, which is run as a hook too: with the same time limit, policy, thread and trace.
"""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from functools import partial
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias

from .errors import is_a, reraise_if_not_a_failure
from .hook import Hook
from .veto import InvalidResult

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterator

    from .own_task import HookVariables

CLEAN_UP_S = 30.0
"""Seconds that the code after a ``yield`` has when the start has failed and no ``timeout_s`` is set."""

_NEVER = InvalidResult("it ended before it came to its `yield`; a hook with a `yield` comes to it once, on every path")
_CANCELLED = InvalidResult("it was cancelled at its `yield`, while nothing had failed, so what follows did not run")
_TWICE = InvalidResult("it came to a second `yield`; a hook has one, and ends after what follows it")


class SyncSpan:
    """A span of a plain generator. It runs in the worker thread, with context variables that are its own.

    Nothing interrupts that thread. So a span whose start is interrupted may be held before it has come to its
    ``yield``, and is then finished, in another thread, once it has.

    Attributes:
        yielded: what it has yielded: its answer at its point, as other hooks return it.
    """

    is_async = False

    def __init__(self, generator: Generator[Any, None, Any]) -> None:
        self.yielded: Any = None
        self._generator = generator
        self._begun = threading.Lock()  # taken by whoever comes first: the first part, or one that finds it was none
        self._set_up_ended = threading.Event()
        self._is_at_yield = False

    def set_up(self, ctx: object) -> SyncSpan | InvalidResult:
        """Run it up to its ``yield``. Takes the ``ctx`` that it has already, as any call of a hook."""
        if not self._begun.acquire(blocking=False):
            return _NEVER
        self._context = copy_context()  # the same for both parts: a token of the first is good in the second
        try:
            self.yielded = self._context.run(next, self._generator)
            self._is_at_yield = True
        except StopIteration:
            return _NEVER
        finally:
            self._set_up_ended.set()
        return self

    def finish(self, error: BaseException | None, ctx: object) -> InvalidResult | None:
        """Run what follows the ``yield``; ``error`` is raised there, if there is one."""
        if self._begun.acquire(blocking=False):
            return None
        self._set_up_ended.wait()
        if not self._is_at_yield:
            return None
        traceback = None if error is None else error.__traceback__
        try:
            if error is None:
                self._context.run(next, self._generator)
            else:
                self._context.run(self._generator.throw, error)
        except StopIteration as ended:
            return _returned(ended.value)
        except BaseException as raised:
            if error is not None and _is_handed_on(raised, error):
                error.__traceback__ = traceback
                return None
            raise
        self._context.run(self._generator.close)
        return _TWICE


class AsyncSpan:
    """A span of an async generator. All of it runs in one task: a cancel scope, or a task group, knows its task.

    Attributes:
        yielded: as in :class:`SyncSpan`.
    """

    is_async = True

    def __init__(self, generator: AsyncGenerator[Any, None], variables: HookVariables) -> None:
        loop = asyncio.get_running_loop()
        self.yielded: Any = None
        self._generator = generator
        self._variables = variables
        self._at_yield: asyncio.Future[None] = loop.create_future()
        self._goes_on: asyncio.Future[BaseException | None] = loop.create_future()
        self._error: BaseException | None = None

    async def set_up(self) -> AsyncSpan | InvalidResult:
        """Run it up to its ``yield``."""
        life = asyncio.get_running_loop().create_task(self._run(), context=self._variables.context)
        self._life = life
        try:
            await asyncio.wait((life, self._at_yield), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            life.cancel()
            await asyncio.wait((life, self._at_yield), return_when=asyncio.FIRST_COMPLETED)
            life.cancel()  # where it has come to its `yield` nevertheless
            await asyncio.wait((life,))
            raise
        return self._ended() or self if life.done() else self

    async def finish(self, error: BaseException | None, ctx: object) -> InvalidResult | None:
        """Run what follows the ``yield``; ``error`` is raised there, if there is one."""
        if not self._goes_on.done():
            self._goes_on.set_result(error)
        try:
            await asyncio.wait((self._life,))
        except asyncio.CancelledError:
            self._life.cancel()
            await asyncio.wait((self._life,))
            raise
        return self._ended()

    def _ended(self) -> InvalidResult | None:
        if self._error is not None:
            raise self._error
        return self._life.result()

    async def _run(self) -> InvalidResult | None:
        try:
            return await self._live()
        except BaseException as error:  # raised here, a sys.exit would end the event loop
            reraise_if_not_a_failure(error)
            self._error = error
            return None

    async def _live(self) -> InvalidResult | None:
        try:
            self.yielded = await anext(self._generator)
        except StopAsyncIteration:
            return _NEVER
        self._at_yield.set_result(None)
        error: BaseException | None
        was_cancelled = False
        try:
            error = await self._goes_on
        except asyncio.CancelledError as cancelled:  # by what it holds, such as a task group in which a task has failed
            error, was_cancelled = cancelled, True
        traceback = None if error is None else error.__traceback__
        try:
            if error is None:
                await anext(self._generator)
            else:
                await self._generator.athrow(error)
        except StopAsyncIteration:
            return None
        except BaseException as raised:
            if error is not None and _is_handed_on(raised, error):
                error.__traceback__ = traceback
                return _CANCELLED if was_cancelled else None
            raise
        await self._generator.aclose()
        return _TWICE


Span: TypeAlias = SyncSpan | AsyncSpan


class Finish(Hook):
    """The second part of a span: runs the code after a hook's ``yield`` as a hook.

    Args:
        hook: the hook.
        span: what was set up.
        error: what ended the start; it is raised at the ``yield``.
    """

    __slots__ = ("_error", "_span")

    is_finish = True

    def __init__(self, hook: Hook, span: Span, error: BaseException | None = None) -> None:
        for name in Hook.__slots__:
            setattr(self, name, getattr(hook, name))
        self._span = span
        self._error = error
        self.call: Callable[[Any], Any] = partial(span.finish, error)
        self.is_async: bool = span.is_async
        self.must_run_alone: bool = True  # each may have a failure of its own

    @property
    def where(self) -> str:
        """The hook point, and that it is about what follows the ``yield``."""
        return f"{super().where}, after its `yield`,"

    def limited_to(self, seconds: float, limit: str) -> Hook:
        """Return the same with at most these seconds, which its failure calls by the words in ``limit``."""
        own_s = self.options.timeout_s
        if own_s is not None and own_s <= seconds:
            return self
        limited = Finish(self, self._span, self._error)
        limited.options = self.options._replace(timeout_s=seconds)
        limited.limit = limit
        return limited


class OpenSpans:
    """The spans of one process that are set up, and not finished."""

    def __init__(self) -> None:
        self._open: list[tuple[Hook, Span]] = []

    def add(self, hook: Hook, span: Span) -> None:
        """Hold a span until somebody takes it."""
        self._open.append((hook, span))

    def __bool__(self) -> bool:
        return bool(self._open)

    def take(self, is_due: Callable[[Hook], bool], error: BaseException | None = None) -> Iterator[Finish]:
        """Yield what finishes the spans that are due, the last one that was set up first. Each is given once.

        Args:
            is_due: says whether the span of a hook ends now.
            error: what ended the start.
        """
        for held in reversed(self._open):  # a copy's elements may be gone by the time they are due
            if is_due(held[0]):
                self._open.remove(held)
                yield Finish(*held, error)

    def take_all(self, error: BaseException) -> list[Hook]:
        """Return what finishes all spans after a failure, the last one first, each with a limit to its time."""
        limit = f"the {CLEAN_UP_S:g} s of what follows a `yield` after a failure"
        finishes = list(self.take(lambda hook: True, error))
        return [each if each.options.timeout_s is not None else each.limited_to(CLEAN_UP_S, limit) for each in finishes]


def span_of(result: object, variables: HookVariables) -> Span | None:
    """Return the span of what calling a hook has returned, if that is a generator."""
    kind = type(result)
    if kind is GeneratorType:
        return SyncSpan(result)  # type: ignore[arg-type]  # checkers do not narrow by `kind`
    if kind is AsyncGeneratorType:
        return AsyncSpan(result, variables)  # type: ignore[arg-type]  # checkers do not narrow by `kind`
    return None


def _returned(value: object) -> InvalidResult | None:
    """Return what it means that a hook has returned a value behind its ``yield``."""
    if value is None or value is True:
        return None
    from .messages import without_value  # only a mistake pays for this import

    return InvalidResult(
        f"it returned {without_value(value)} behind its `yield`, where nothing is left to veto: "
        "`yield skip('why')` vetoes"
    )


def _is_handed_on(raised: BaseException, error: BaseException) -> bool:
    """Return True if a generator has raised what was thrown in, and nothing else.

    A task group around the ``yield`` makes a group of it, and of a stop Python makes a RuntimeError.
    """
    if raised is error:
        return True
    if is_a(raised, BaseExceptionGroup):
        return BaseExceptionGroup.split(raised, lambda each: each is error)[1] is None
    stops = is_a(error, StopIteration) or is_a(error, StopAsyncIteration)
    return stops and is_a(raised, RuntimeError) and raised.__cause__ is error
