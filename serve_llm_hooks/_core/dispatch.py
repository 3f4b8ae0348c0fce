"""Run the hooks of one point: async ones awaited, runs of sync ones in the worker thread, in order.

``run_point`` cuts the hooks into runs; a run of sync hooks hops once to the worker thread, where
``call_loop.call_each`` calls them. A veto, an exception or an awaitable from a sync hook leaves the loop, is handled
here, and the loop is entered again behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
from collections.abc import Awaitable
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeVar

from .call_loop import call_each
from .errors import HookError, HookResultError, HookTimeoutError, is_a, reraise_if_not_a_failure
from .messages import is_small, one_line, readable
from .own_task import HookVariables, OwnTask
from .spans import AsyncSpan, OpenSpans, SyncSpan, span_of
from .veto import InvalidResult, Skip, decide
from .worker_thread import WorkerThread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .event import HookOutcome
    from .hook import Hook
    from .node import Node
    from .options import OnError
    from .trace import Batch, Trace


ResultT = TypeVar("ResultT")
_HIDDEN = "it has a `yield` that its wrapper hides, so that until= means work in the background: put @hook below it"

logger: logging.Logger = logging.getLogger("serve_llm_hooks")


class Dispatcher:
    """Run points for one model in one process: the replica, or a node.

    Use as an async context manager: leaving it lets the worker thread end.

    Args:
        model_id: the model, for messages.
        trace: where calls are recorded; ``None`` records nothing.
        node: the node, for messages; ``None`` in the replica.
        on_error: the error policy of hooks that have none of their own.
        variables: the context variables of async hooks, where those of another dispatcher go on; else, new ones.
        spans: holds what hooks with a ``yield`` have set up; left out, a new one.
    """

    def __init__(
        self,
        model_id: str,
        *,
        trace: Trace | None,
        node: Node | None = None,
        on_error: OnError = "raise",
        variables: HookVariables | None = None,
        spans: OpenSpans | None = None,
    ) -> None:
        self._model_id = model_id
        self._trace = trace
        self._node = node
        self._on_error = on_error
        self.variables: HookVariables = variables or HookVariables()
        self.spans: OpenSpans = OpenSpans() if spans is None else spans
        self._worker = WorkerThread()

    async def __aenter__(self) -> Dispatcher:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._worker.shutdown()

    async def run_point(self, hooks: Sequence[Hook], ctx: object) -> Skip | None:
        """Run hooks of one point, in the order given.

        Returns:
            The first veto, if any hook vetoed.

        Raises:
            HookTimeoutError: a hook ran longer than its ``timeout_s``.
            HookResultError: a hook returned a value that this point cannot use.
            HookError: a hook raised; its exception is the cause.
        """
        veto: Skip | None = None
        start = 0
        while start < len(hooks):
            end = start + 1
            if not hooks[start].must_run_alone:
                while end < len(hooks) and not hooks[end].must_run_alone:
                    end += 1
            batch = hooks[start:end]
            run = _Run(batch, ctx, self._trace)
            run.begin()
            if batch[0].is_async:
                await self._settle_awaitable(run, None)
            else:
                await self._run_sync(run)
            veto = veto or run.veto
            start = end
        return veto

    async def call_in_thread(self, call: Callable[[], ResultT]) -> ResultT:
        """Call something in the thread that sync hooks are called in."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._worker, contextvars.copy_context().run, call)

    async def _run_sync(self, run: _Run) -> None:
        """Run sync hooks in the worker thread; handle what stops its loop, and go on behind that hook."""
        loop = asyncio.get_running_loop()
        # As asyncio.to_thread does: hooks see the caller's context variables.
        job: Callable[..., Any] = contextvars.copy_context().run
        span: SyncSpan | AsyncSpan | None = None
        while run.index < len(run.hooks):
            hook = run.hooks[run.index]
            calls = [hook.call for hook in run.hooks[run.index :]]
            if isinstance(span, SyncSpan):
                calls[0] = span.set_up
            done = loop.run_in_executor(self._worker, job, call_each, calls, run.ctx, run.times, run.clock)
            try:
                if hook.options.timeout_s is not None:
                    await asyncio.wait({done}, timeout=hook.options.timeout_s)
                late = hook.options.timeout_s is not None and not done.done()
                stopped = None if late else await done
            except BaseException as raised:  # cancelled or closed
                calls.clear()  # the thread finishes its current hook, and starts no other
                self._interrupt(run, span, cancelled=is_a(raised, asyncio.CancelledError))
                raise
            if late:
                run.detach()
                self._abandon_worker(done)
                self._time_out(run)
                continue
            if stopped is None:
                return
            stopped_after, result, error = stopped
            run.index += stopped_after
            span = None
            if error is not None:
                self._fail(run, error)
            elif _is_awaitable(result):
                await self._settle_awaitable(run, result)
            elif (span := span_of(result, self.variables)) is not None:
                if isinstance(span, AsyncSpan):
                    await self._settle_awaitable(run, span.set_up())
            else:
                self._settle(run, result)

    def _interrupt(self, run: _Run, span: SyncSpan | AsyncSpan | None, *, cancelled: bool) -> None:
        """Leave the current hook at work in its thread; a span is held, to be finished once it is set up."""
        if isinstance(span, SyncSpan):
            self.spans.add(run.hooks[run.index], span)
        run.interrupt(cancelled=cancelled)

    async def _settle_awaitable(self, run: _Run, awaitable: Any) -> None:
        """Await the current hook within its timeout; call it first if there is nothing to await yet."""
        hook = run.hooks[run.index]
        task = asyncio.current_task()
        own = OwnTask(partial(hook.call, run.ctx) if awaitable is None else lambda: awaitable, self.variables)
        in_time = True
        try:
            in_time = await own.ends_within(hook.options.timeout_s)
            error = own.error if in_time else None
        except BaseException as raised:
            error = raised
        if error is not None:
            cancelled = is_a(error, asyncio.CancelledError)
            if cancelled and _is_cancelled():
                run.end("cancelled", "")
            reraise_if_not_a_failure(error, task)
            itself = cancelled and own.cancelled_itself
            self._fail(run, error, why="it cancelled the task that it runs in" if itself else "")
        elif in_time:
            self._settle(run, own.result)
        else:
            self._time_out(run)

    def _settle(self, run: _Run, result: object) -> None:
        """Handle a hook's result as ``veto.decide`` says."""
        hook = run.hooks[run.index]
        if type(result) is SyncSpan or type(result) is AsyncSpan:
            self.spans.add(hook, result)
            result = result.yielded if not hook.is_background else InvalidResult(_HIDDEN)
        decision = decide(result, hook.point)
        if decision is None:
            run.end("ok", "")
        elif isinstance(decision, InvalidResult):
            self._fail(run, None, HookResultError, decision.problem)
        elif hook.is_background:
            why = f"it vetoed, but works in the background (until={hook.options.until!r}), beside what it would skip"
            self._fail(run, None, HookResultError, f"{why}: leave until= out")
        else:
            run.veto = run.veto or Skip(decision.reason or f"{hook.ref} returned False")
            run.end("vetoed", decision.reason)
            at_node = f", {self._node}" if self._node else ""
            why = f": {decision.reason}" if decision.reason else ""
            logger.info("model %r%s: %s vetoed at %s%s", self._model_id, at_node, hook.ref, hook.point, why)

    def _time_out(self, run: _Run) -> None:
        hook = run.hooks[run.index]
        over = f"when {hook.limit} were over" if hook.limit else f"after timeout_s={hook.options.timeout_s:g}"
        self._fail(run, None, HookTimeoutError, f"still running {over}", "timed_out")

    def _fail(
        self,
        run: _Run,
        cause: BaseException | None,
        kind: type[HookError] = HookError,
        why: str = "",
        outcome: HookOutcome = "failed",
    ) -> None:
        """Handle a failing hook as its ``on_error`` says: raise, or warn and go on."""
        hook = run.hooks[run.index]
        why = why or ("" if cause is None else one_line(cause))
        where = f" on {self._node}" if self._node else ""
        message = f"hook {hook.ref} failed at {hook.where} for model {self._model_id!r}{where}: {why}"
        node_id = self._node and self._node.node_id
        failure = kind(message, hook=hook.ref, point=hook.point, model_id=self._model_id, node_id=node_id)
        failure.__cause__ = cause = None if cause is None else readable(cause)
        # While a start is being cancelled, a hook's failing clean-up must not swallow the cancellation.
        if (hook.options.on_error or self._on_error) == "warn" and not _is_cancelled():
            run.end("warned", why)
            with contextlib.suppress(Exception):  # a log handler that fails ends no start
                cause_shown = failure if is_small(failure) else None
                logger.warning("%s (on_error='warn': going on)", message, exc_info=cause_shown)
            return
        run.end(outcome, why)
        raise failure from cause

    def _abandon_worker(self, job: asyncio.Future[Any]) -> None:
        """Leave a thread that hangs behind; the next sync hook gets a new one."""
        job.cancel()
        self._worker.shutdown()
        self._worker = WorkerThread()


class _Run:
    """A run of hooks, and the index of the current one."""

    __slots__ = ("batch", "clock", "ctx", "hooks", "index", "times", "veto")

    def __init__(self, hooks: Sequence[Hook], ctx: object, trace: Trace | None) -> None:
        self.hooks = hooks
        self.ctx = ctx
        self.index = 0
        self.veto: Skip | None = None
        self.batch: Batch | None = None
        self.times: list[float] | None = None
        self.clock: Callable[[], float] = float
        if trace is not None:
            self.batch = trace.batch(hooks)
            self.times = self.batch.times
            self.clock = trace.clock

    def begin(self) -> None:
        """Record when the first hook starts."""
        if self.times is not None:
            self.times.append(self.clock())

    def end(self, outcome: HookOutcome, detail: str) -> None:
        """Record the end of the current hook, and move on to the next."""
        if self.batch is not None:
            if outcome != "ok":
                self.batch.outcomes[self.index] = (outcome, detail)
            self.batch.times.append(self.clock())
        self.index += 1

    def interrupt(self, *, cancelled: bool) -> None:
        """Record that the current hook was interrupted, and keep the thread from writing into the trace."""
        self.detach()
        if self.batch is not None and cancelled and len(self.batch.times) <= len(self.hooks):
            self.index = len(self.batch.times) - 1
            self.end("cancelled", "")

    def detach(self) -> None:
        """Keep a thread that hangs from writing its times into the trace."""
        if self.batch is not None:
            self.batch.times = list(self.batch.times)


def _is_awaitable(result: object) -> bool:
    """Return True if a result is to be awaited; whatever else it is, it is not asked what it is."""
    kind = type(result)
    return issubclass(kind, Awaitable) or (kind is GeneratorType and inspect.isawaitable(result))


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())
