"""Hooks that work in the background: begun at their point, and waited for on entry to the one that ``until=`` names.

They run in an event loop of their own, in a thread of its own: a starting engine blocks the replica's.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from typing import TYPE_CHECKING, Any

from .._core.context import close_in_background
from .._core.errors import HookResultError, ServeLLMHooksError, is_a
from .._core.loop_thread import LoopThread
from .._core.messages import one_line
from .._core.snapshot import unchanging
from .._observe.clean_up import log_error

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
    from concurrent.futures import Future

    from .._core.context import CallbackCtx
    from .._core.dispatch import Dispatcher
    from .._core.hook import Hook
    from .._core.points import HookName
    from .._observe.progress import Progress


logger: logging.Logger = logging.getLogger("serve_llm_hooks")
_END_S = 2.0  # how long the thread may take to end


class _Job:
    """One hook at work.

    Args:
        hook: the hook.
        done: its end, with its failure.
        take: takes what it has come to, where it is waited for.
    """

    def __init__(self, hook: Hook, done: Future[None], take: Callable[[], object]) -> None:
        self.hook = hook
        self.done = done
        self.take = take

    @property
    def failure(self) -> BaseException | None:
        """The error of the hook, if it has failed; else ``None``."""
        if self.done.done() and self.done.cancelled():
            return ServeLLMHooksError(f"{self.hook.ref} at {self.hook.point} was cancelled by what runs beside it")
        return self.done.exception() if self.done.done() else None


class Background:
    """The hooks of one start that work in the background.

    Args:
        hooks: all hooks of the start.
        ctx: the context of its hooks in the replica.
        progress: logs what is waited for.
        make_dispatcher: returns a dispatcher for one hook.

    Attributes:
        points: the points at which there are such hooks.
    """

    def __init__(
        self,
        hooks: Iterable[Hook],
        ctx: CallbackCtx,
        progress: Progress,
        make_dispatcher: Callable[[], Dispatcher],
    ) -> None:
        self.points: frozenset[HookName] = frozenset(hook.point for hook in hooks if hook.is_background)
        self._ctx = ctx
        self._progress = progress
        self._make_dispatcher = make_dispatcher
        self._jobs: list[_Job] = []
        self._thread: LoopThread | None = None
        self._awaited: tuple[_Job, ...] = ()
        self._set_by: dict[tuple[str, str], tuple[Hook, Any]] = {}  # by where, and key; with the value
        self._task: asyncio.Task[Any] | None = None
        self._cause: BaseException | None = None  # the failure that has interrupted the start
        self._cancelled_before = 0

    def __bool__(self) -> bool:
        return bool(self._jobs)

    def begin(self, hook: Hook) -> None:
        """Begin a hook, with a context of its own."""
        ctx, given = copy.copy(self._ctx), unchanging(lambda: dict(self._ctx.custom_data))
        close_in_background(ctx, hook.options.until or "", dict(given))
        self.work(hook, _run(self._make_dispatcher(), hook, ctx), lambda: self._take(hook, given, ctx.custom_data))

    def work(self, hook: Hook, work: Coroutine[Any, Any, None], take: Callable[[], object]) -> None:
        """Begin the work of a hook.

        Args:
            hook: the hook.
            work: what it does; in the loop of the background.
            take: called in the replica's loop when it is waited for, and has ended well.
        """
        self._task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        self._thread = self._thread or LoopThread()
        job = _Job(hook, self._thread.submit(work), take)
        self._jobs.append(job)

        def tell(_: Future[None]) -> None:
            with contextlib.suppress(RuntimeError):  # the replica's loop is closed
                loop.call_soon_threadsafe(self._interrupt, job)

        job.done.add_done_callback(tell)

    def earlier(self, hook: Hook) -> list[_Job]:
        """Return what a hook of the same point waits for, since an ``after`` or ``before`` says so."""
        return [job for job in self._jobs if job.hook.point == hook.point and is_before(job.hook, hook)]

    async def join(self, point: HookName) -> None:
        """Wait for what works until a point."""
        await self.settle(self._until(point))

    def _until(self, point: HookName) -> list[_Job]:
        return [job for job in self._jobs if job.hook.options.until == point]

    def names_until(self, point: HookName, *, at_work: bool = False) -> str:
        """Return what works until a point, in words; with ``at_work`` without what has ended. Empty if nothing does."""
        return ", ".join(job.hook.ref for job in self._until(point) if not (at_work and job.done.done()))

    def call_at_end(self, point: HookName, tell: Callable[[str], object]) -> None:
        """Call a function, in any thread, when what works until a point has ended, or one has failed.

        It is given the failure in words, or an empty text; and once more for each further failure.
        """
        jobs = self._until(point)

        def ended(_: Future[None]) -> None:
            failures = [str(job.failure) for job in jobs if job.failure is not None]
            if failures or all(job.done.done() for job in jobs):
                tell(failures[0] if failures else "")

        for job in jobs:
            job.done.add_done_callback(ended)

    def take_failure(self, point: HookName) -> BaseException | None:
        """Return the failure of what works until a point, if there is one, to the caller, who raises it."""
        for job in self._until(point):
            if job.failure is not None:
                self._jobs.remove(job)
                return job.failure
        return None

    async def settle(self, jobs: Sequence[_Job]) -> None:
        """Wait for hooks to end, and take what they have added to ``custom_data``.

        Raises:
            HookError: one has failed.
        """
        if not jobs:
            return
        self._awaited = tuple(jobs)
        names = ", ".join(f"{job.hook.ref}, at work until {job.hook.options.until}" for job in jobs)
        try:
            with self._progress.waiting_for(names):
                await asyncio.wait([_wrapped(job.done) for job in jobs], return_when=asyncio.FIRST_EXCEPTION)
        finally:
            self._awaited = ()
        for job in jobs:
            if job.failure is not None:
                self._jobs.remove(job)
                raise job.failure
        for job in jobs:
            self._jobs.remove(job)
            job.take()

    def _take(self, hook: Hook, given: dict[str, Any], now: dict[str, Any]) -> None:
        """Add to the replica's ``custom_data`` what a hook has set in its own."""
        ours, unset = self._ctx.custom_data, object()
        changed = {key: value for key, value in now.items() if given.get(key, unset) is not value}
        meanwhile = {key for key in changed if ours.get(key, unset) is not given.get(key, unset)}
        self.merge(hook, ours, changed, meanwhile)

    def merge(
        self, hook: Hook, ours: dict[str, Any], changed: dict[str, Any], meanwhile: Collection[str], *, where: str = ""
    ) -> None:
        """Add what a hook has changed to ``custom_data``.

        Args:
            hook: the hook.
            ours: gets it.
            changed: what it has set.
            meanwhile: the keys that others have set while it was at work.
            where: on which node, for messages.

        Raises:
            HookResultError: another hook in the background has set the same.
        """
        for key, value in changed.items():
            other, set_to = self._set_by.get((where, key), (None, None))
            if key not in meanwhile:
                ours[key] = value
                self._set_by[where, key] = hook, value
            elif other is not None and ours.get(key) is set_to:  # else a hook in front has set it since
                raise HookResultError(
                    f"hooks {other.ref} and {hook.ref}, which work in the background for model {self._ctx.model_id!r}, "
                    f"both set ctx.custom_data[{key!r}]{where}: let each have a key of its own",
                    hook=hook.ref,
                    point=hook.point,
                    model_id=self._ctx.model_id,
                )
            else:
                logger.warning(
                    "model %r: ctx.custom_data[%r]%s was set while %s worked in the background, which has set it too: "
                    "it stays as it is",
                    self._ctx.model_id,
                    key,
                    where,
                    hook.ref,
                )

    # -- failures ---------------------------------------------------------------------------------------------------

    def _interrupt(self, job: _Job) -> None:
        """Cancel the start when a hook has failed, unless it is waited for just now, or something else has."""
        failure = job.failure
        if failure is None or self._cause is not None or job not in self._jobs or job in self._awaited:
            return
        if self._task is not None and not self._task.done():
            self._cause = failure
            self._cancelled_before = self._task.cancelling()
            self._task.cancel()

    @property
    def has_interrupted(self) -> bool:
        """``True`` if a failure of a hook has interrupted the start."""
        return self._cause is not None

    def cause_of(self, error: BaseException) -> BaseException:
        """Return why the start ends with an error: after a cancellation that is our own, the failure behind it.

        What else came of the cancellation, as from a hook's ``finally``, is logged.
        """
        if self._cause is None or self._task is None:
            return error
        if self._task.uncancel() > self._cancelled_before:  # somebody else's too
            return error
        if error is not self._cause and not is_a(error, asyncio.CancelledError):
            log_error("%s (the first error is raised)", one_line(error), error=error)
        return self._cause

    async def end(self, error: BaseException | None = None) -> None:
        """Cancel what is still at work, and end the thread. Failures but this error are logged."""
        jobs, self._jobs = self._jobs, []
        thread, self._thread = self._thread, None
        if thread is None or thread.ended.done():
            return
        left = [job for job in jobs if not job.done.done()]
        if left:
            names = ", ".join(job.hook.ref for job in left)
            with self._progress.waiting_for(f"{names} to be cancelled"):
                await asyncio.wait([_wrapped(thread.submit(thread.cancel()))])
        for job in left:
            if not job.done.done():
                log_error(
                    "%s at %s, in the background, was cancelled and has not ended; it is left at work",
                    job.hook.ref,
                    job.hook.point,
                )
        for job in jobs:
            if not job.done.cancelled() and job.failure not in (None, error):
                log_error("%s (the first error is raised)", job.failure, error=job.failure)
        thread.stop()
        await asyncio.wait([_wrapped(thread.ended)], timeout=_END_S)

    def leave(self) -> None:
        """End the thread without waiting, where nothing can be awaited."""
        if self._thread:
            self._thread.stop()


async def _run(dispatcher: Dispatcher, hook: Hook, ctx: CallbackCtx) -> None:
    async with dispatcher:
        await dispatcher.run_point([hook], ctx)


def is_before(hook: Hook, other: Hook) -> bool:
    """Return True if ``after`` or ``before`` says that one hook comes before another."""
    return bool({hook.name, hook.path} & {*other.options.after} or {other.name, other.path} & {*hook.options.before})


def _wrapped(done: Future[None]) -> asyncio.Future[None]:
    """Return a future of this loop, whose failure need not be looked at: it is that of the other."""
    wrapped = asyncio.wrap_future(done)
    wrapped.add_done_callback(lambda each: each.cancelled() or each.exception())
    return wrapped
