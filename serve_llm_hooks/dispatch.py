"""Run the hooks of one point: async ones awaited, runs of sync ones in the worker thread, in order.

The way of a call: ``run_point`` cuts the hooks into runs, a run of sync hooks hops once to the worker thread, and
there ``hotloop.call_each`` calls them. Everything unusual (a veto, an exception, an awaitable from a sync hook) leaves
the loop, is settled outside, and the loop is entered again behind it.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import queue
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from .context import Skip
from .errors import HookError, HookResultError, HookTimeoutError, MeaninglessResult, ServeLLMHooksError, let_through
from .hotloop import call_each
from .points import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from .registry import Hook, OnError
    from .trace import Batch, HookOutcome, Trace

__all__ = ["Dispatcher", "WorkerThread"]

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

# An async hook that is cancelled at its timeout is given this long to clean up.
_CANCEL_GRACE_S = 1.0

_SHOWN_ERRORS = 3  # of a group of them, so many are named in a line


class WorkerThread(Executor):
    """One daemon thread that sync hooks run in, one after another.

    A daemon, and not the event loop's own executor, because a hook that hangs must not keep the process from ending.
    It goes through ``loop.run_in_executor``, so that a loop with a clock of its own can tell when it is at work.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Queue a call (Executor's interface)."""
        if self._thread is None:
            self._thread = threading.Thread(target=_work, args=(self._jobs,), name="serve-llm-hooks", daemon=True)
            self._thread.start()
        future: Future[Any] = Future()
        self._jobs.put((future, lambda: fn(*args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Let the thread end after its current job; never waits for it, since that job may hang."""
        self._jobs.put(None)


def _work(jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (job := jobs.get()) is not None:
        future, call = job
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(call())
            except BaseException as error:  # whatever it is, the loop that waits for it decides
                future.set_exception(error)
        del job, future, call  # what they hold must not live until the next job


class Dispatcher:
    """Runs points for one model in one process: the replica, or a node.

    Args:
        model_id: the model, for messages.
        trace: where calls are recorded; ``None`` records nothing.
        node_id: the node, for messages; ``None`` in the replica.
        on_error: what a failing hook does that does not say so itself.

    Use as an async context manager: leaving it lets the worker thread end.
    """

    def __init__(
        self,
        model_id: str,
        *,
        trace: Trace | None,
        node_id: str | None = None,
        on_error: OnError = "raise",
    ) -> None:
        self._model_id = model_id
        self._trace = trace
        self._node_id = node_id
        self._on_error = on_error
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
            HookResultError: a hook returned something that means nothing here.
            HookError: a hook raised; what it raised is the cause.
        """
        veto: Skip | None = None
        start = 0
        while start < len(hooks):
            end = start + 1
            if not hooks[start].alone:
                while end < len(hooks) and not hooks[end].alone:
                    end += 1
            batch = hooks[start:end]
            run = _Run(batch, ctx, self._trace)
            if batch[0].is_async:
                await self._run_async(run)
            else:
                await self._run_sync(run)
            veto = veto or run.veto
            start = end
        return veto

    async def _run_sync(self, run: _Run) -> None:
        """Run sync hooks in the worker thread; come back for what the thread cannot settle, and go on behind it."""
        loop = asyncio.get_running_loop()
        # As asyncio.to_thread does: hooks see the caller's context variables.
        job: Callable[..., Any] = contextvars.copy_context().run
        run.begin()
        while run.index < len(run.hooks):
            hook = run.hooks[run.index]
            calls = [hook.call for hook in run.hooks[run.index :]]
            done = loop.run_in_executor(self._worker, job, call_each, calls, run.ctx, run.times, run.clock)
            try:
                if hook.options.timeout_s is not None:
                    await asyncio.wait({done}, timeout=hook.options.timeout_s)
                    if not done.done():
                        run.detach()
                        self._abandon_worker(done)
                        self._fail(run, _timed_out(hook), "timed_out")
                        continue
                stopped = await done
            except asyncio.CancelledError:
                calls.clear()  # the thread finishes the hook it is at, and starts no other
                raise
            if stopped is None:
                return
            stopped_after, result, error = stopped
            run.index += stopped_after
            if error is not None:
                self._fail(run, error, "failed")
            elif inspect.isawaitable(result):
                await self._settle_awaitable(run, result)
            else:
                self._settle(run, result)

    async def _run_async(self, run: _Run) -> None:
        run.begin()
        await self._settle_awaitable(run, None)

    async def _settle_awaitable(self, run: _Run, awaitable: Any) -> None:
        """Await the current hook (called first, where there is nothing to await yet), within its timeout."""
        hook = run.hooks[run.index]
        try:
            if awaitable is None:
                awaitable = hook.call(run.ctx)
            if hook.options.timeout_s is None:
                result = await awaitable
            else:
                result = await _within(hook.options.timeout_s, awaitable)
        except _TimedOut:
            self._fail(run, _timed_out(hook), "timed_out")
        except asyncio.CancelledError as error:
            if not _is_cancelled():  # it is the hook's own affair that was cancelled
                self._fail(run, error, "failed")
                return
            run.end("cancelled", "")
            raise
        except BaseException as error:  # a panic in Rust code is no Exception
            let_through(error)
            self._fail(run, error, "failed")
        else:
            self._settle(run, result)

    def _settle(self, run: _Run, result: object) -> None:
        """Take a hook's result: go on, veto, or say that it means nothing."""
        hook = run.hooks[run.index]
        if result is None or result is True:
            run.end("ok", "")
        elif (result is False or isinstance(result, Skip)) and HOOK_POINTS[hook.point].may_veto:
            reason = result.reason if isinstance(result, Skip) else ""
            run.veto = run.veto or Skip(reason or f"{hook.ref} returned False")
            run.end("vetoed", reason)
            logger.info(
                "%s: %s vetoed at %s%s",
                self._where(),
                hook.ref,
                hook.point,
                f": {reason}" if reason else "",
            )
        else:
            self._fail(run, _meaningless(hook, result), "failed")

    def _fail(self, run: _Run, error: BaseException, outcome: HookOutcome) -> None:
        """Settle a failing hook as its ``on_error`` says."""
        hook = run.hooks[run.index]
        where = f" on node {self._node_id}" if self._node_id else ""
        message = f"hook {hook.ref} failed at {hook.point} for model {self._model_id!r}{where}"
        kind: type[HookError] = HookError
        if isinstance(error, _TimedOut):
            kind, message = HookTimeoutError, f"{message}: {error}"
        elif isinstance(error, MeaninglessResult):
            kind, message = HookResultError, f"{message}: {error}"
        else:
            message = f"{message}: {one_line(error)}"
        failure = kind(message, hook=hook.ref, point=hook.point, model_id=self._model_id, node_id=self._node_id)
        if not isinstance(error, _TimedOut | MeaninglessResult):
            failure.__cause__ = error
        # Of a start that is cancelled, what fails while it cleans up must not be the end of the cancelling.
        if (hook.options.on_error or self._on_error) == "warn" and not _is_cancelled():
            run.end("warned", one_line(error))
            logger.warning("%s (on_error='warn': going on)", message, exc_info=failure)
            return
        run.end(outcome, one_line(error))
        raise failure from failure.__cause__  # and not from what was being handled in here

    def _abandon_worker(self, job: asyncio.Future[Any]) -> None:
        """Leave a thread that hangs to itself; the next sync hook gets a new one."""
        job.cancel()
        self._worker.shutdown()
        self._worker = WorkerThread()

    def _where(self) -> str:
        return f"model {self._model_id!r}" + (f", node {self._node_id}" if self._node_id else "")


class _Run:
    """A run of hooks, and how far it has come."""

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
        """Note when the first hook starts."""
        if self.times is not None:
            self.times.append(self.clock())

    def end(self, outcome: HookOutcome, detail: str) -> None:
        """Close the current hook's record, and move on to the next."""
        if self.batch is not None:
            if outcome != "ok":
                self.batch.outcomes[self.index] = (outcome, detail)
            self.batch.times.append(self.clock())
        self.index += 1

    def detach(self) -> None:
        """Let a thread that hangs write its times where nobody looks."""
        if self.batch is not None:
            self.batch.times = list(self.batch.times)


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and bool(task.cancelling())


class _TimedOut(Exception):
    pass


def _timed_out(hook: Hook) -> _TimedOut:
    return _TimedOut(f"still running after timeout_s={hook.options.timeout_s:g}")


def _meaningless(hook: Hook, result: object) -> MeaninglessResult:
    shown = repr(result)
    shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
    if HOOK_POINTS[hook.point].may_veto:
        wanted = "None or True to go on, False or skip('why') to veto"
    else:
        wanted = "None (there is nothing to veto here)"
    return MeaninglessResult(f"it returned {shown}; a hook at {hook.point} returns {wanted}")


async def _within(timeout_s: float, awaitable: Awaitable[Any]) -> Any:
    """Await at most so long. Unlike ``asyncio.timeout``, does not wait for one that will not be cancelled."""

    async def wrapped() -> Any:
        try:
            return await awaitable
        except SystemExit as error:  # in a task it would take the event loop down
            raise RuntimeError(f"the hook called sys.exit({error.code!r})") from error
        except KeyboardInterrupt as error:  # this, too
            let_through(error)
            raise RuntimeError("the hook raised KeyboardInterrupt") from error

    task = asyncio.ensure_future(wrapped())
    try:
        done, _ = await asyncio.wait({task}, timeout=timeout_s)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not done:
        task.cancel()
        await asyncio.wait({task}, timeout=_CANCEL_GRACE_S)
        raise _TimedOut
    return task.result()


def one_line(error: BaseException) -> str:
    """An exception as ``Type: message``, on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, ServeLLMHooksError):  # ours say it already
        text += ": " + "; ".join(one_line(each) for each in error.exceptions[:_SHOWN_ERRORS])
    kind = type(error).__name__
    if isinstance(error, _TimedOut | MeaninglessResult):
        return text
    return f"{kind}: {text}" if text else kind
