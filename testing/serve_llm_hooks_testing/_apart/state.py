"""The simulated process that code runs in, and what it has to itself."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import selectors
    import threading
    from collections.abc import Callable, Iterator, MutableMapping
    from contextvars import Context

_MANY_TASKS = 64
_set_signal: Any = import_module("_signal").signal  # which signal.signal calls, and which is replaced during runs


class ProcessState:
    """State that one simulated process has to itself. One that is made in another ends with that.

    Args:
        loop_in_main_thread: whether its event loop is in its main thread: a node's is, and a replica's is not, under
            Serve.
        environ: its environment variables, as ``os.environ`` keeps them; ``None``: those of the test's process.

    Attributes:
        loop_in_main_thread, environ: as given.
        is_over: whether it has been killed, or has ended.
        threads: those that were started in it, and have not ended.
        on_thread_end: called in a thread that ends.
        told_to_end: how often a thread was told to end, after its process had.
        locks: by the id of an asyncio lock of the test's process, that lock and its own.
        bound: the objects of asyncio that it has bound to its event loop.
        signals: the handlers that were there before its own.
        process_id: a made-up id; ``None``: that of the test's process.
        file_locks: the locks of files that it has asked for; each has a ``release``.
    """

    def __init__(self, *, loop_in_main_thread: bool, environ: MutableMapping[bytes, bytes] | None = None) -> None:
        self.loop_in_main_thread = loop_in_main_thread
        self.environ = environ
        self.is_over: bool = False
        self.threads: list[threading.Thread] = []
        self.told_to_end: int = 0
        self.on_thread_end: Callable[[], object] | None = None
        self.locks: dict[int, tuple[Any, Any]] = {}
        self.bound: list[Any] = []
        self.signals: dict[int, Any] = {}
        self.process_id: int | None = None
        self.file_locks: list[Any] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._many_tasks = _MANY_TASKS
        self._children: dict[ProcessState, None] = {}
        self._parent = current_process()
        if self._parent is not None:
            self._parent._children[self] = None

    def add_task(self, task: asyncio.Task[Any]) -> None:
        """Take a task for one of this process."""
        self._tasks.append(task)
        if len(self._tasks) > self._many_tasks:
            self._tasks = self._tasks_left()
            self._many_tasks = 2 * len(self._tasks) + _MANY_TASKS

    def with_children(self) -> Iterator[ProcessState]:
        """Yield this process and those that were made in it."""
        yield self
        for child in tuple(self._children):
            yield from child.with_children()

    def ends_at_once(self) -> bool:
        """Return whether Python would wait for no thread before it ends the process."""
        return all(thread.daemon for thread in tuple(self.threads))

    def forget_thread(self, thread: threading.Thread) -> None:
        """Note that a thread, which calls this, is about to end."""
        self.threads.remove(thread)
        if self.on_thread_end is not None:
            with suppress(RuntimeError):  # the run is over, and its event loop closed
                self.on_thread_end()

    async def end_tasks(self, within_s: float) -> None:
        """Cancel its tasks but the current one, and wait so long for them to clean up."""
        left = set(self._tasks_left()) - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=within_s)

    def end(self) -> bool:
        """End it, and those that were made in it. Return whether they have left tasks."""
        has_left = False
        for each in self.with_children():
            each.is_over = True
            each.release()
            has_left = has_left or bool(each._tasks)
        if self._parent is not None and not has_left:
            self._parent._children.pop(self, None)
        return has_left

    def release(self) -> None:
        """Give back what outlives this process: what was bound to its event loop, and the handlers of signals."""
        for each in self.bound:
            each._loop = None
        self.bound.clear()
        for signalnum, handler in self.signals.items():
            if handler is not None:
                _set_signal(signalnum, handler)
        self.signals.clear()
        for lock in self.file_locks:
            lock.release()
        self.file_locks.clear()
        self._tasks = self._tasks_left()

    def _tasks_left(self) -> list[asyncio.Task[Any]]:
        return [task for task in self._tasks if not task.done()]


_current: ContextVar[ProcessState | None] = ContextVar("_current", default=None)


def current_process() -> ProcessState | None:
    """Return the simulated process that the caller runs in; ``None`` if it runs in none."""
    return _current.get()


enter_process = _current.set
leave_process = _current.reset


@contextmanager
def in_process(process: ProcessState) -> Iterator[None]:
    """Let the caller, and the tasks that it makes, be in a process inside the ``with`` block, which is its end."""
    token = enter_process(process)
    try:
        yield
    finally:
        leave_process(token)
        process.release()


def is_of_the_dead(context: Context | None) -> bool:
    """Return whether a context is that of a process that is over; ``None``: the current context."""
    process = _current.get() if context is None else context.get(_current)
    return process is not None and process.is_over


class ApartLoop(asyncio.SelectorEventLoop):
    """An event loop that knows the simulated process of each task."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self._frozen: list[asyncio.Handle] = []
        self._ended: list[ProcessState] = []

    def end_process(self, process: ProcessState) -> None:
        """End a process at once: its tasks stay where they are, until :meth:`thaw`. No clean-up of theirs runs."""
        if not process.end():
            return
        self._ended.append(process)
        for handle in self._ready:  # type: ignore[attr-defined]  # asyncio's own
            if not handle.cancelled() and is_of_the_dead(handle._context):
                self._frozen.append(asyncio.Handle(handle._callback, handle._args, self, handle._context))
                handle.cancel()
        vars(self)["call_soon"] = self._call_soon_unless_dead  # others need not pay for it

    def stand_still(self) -> None:
        """Prepare to be run again later."""

    def thaw(self) -> None:
        """Let what is left of such processes go on, when the run is over: to be cancelled, as it would not be there."""
        if self._ended:
            del vars(self)["call_soon"]
            for each in self._ended:
                for process in each.with_children():
                    process.is_over = False
            self._ready.extend(self._frozen)  # type: ignore[attr-defined]  # asyncio's own
            self._ended, self._frozen = [], []

    def _call_soon_unless_dead(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if not is_of_the_dead(context):
            return super().call_soon(callback, *args, context=context)
        handle = asyncio.Handle(callback, args, self, context)
        self._frozen.append(handle)
        return handle

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """Make a task, as asyncio does."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        context = options.get("context")
        process = _current.get() if context is None else context.get(_current)
        if process is not None:
            process.add_task(task)
        return task

    def add_signal_handler(  # type: ignore[override]  # typeshed has TypeVarTuples
        self, sig: int, callback: Callable[..., Any], *args: Any
    ) -> None:
        """Refuse a handler in a process whose loop is not in its main thread; on a node, none is ever called.

        Raises:
            RuntimeError: as Python says it.
        """
        process = _current.get()
        if process is None:
            super().add_signal_handler(sig, callback, *args)
        elif not process.loop_in_main_thread:
            raise RuntimeError("set_wakeup_fd only works in main thread of the main interpreter")
