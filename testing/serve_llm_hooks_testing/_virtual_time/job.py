"""A call in a worker thread, or in another process."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


@dataclass(eq=False, slots=True)
class Job:
    """A call in a worker thread, or in another process. It has ended for the event loop when its future is done.

    Attributes:
        lane: what makes the call, after others that came before it; ``None`` if it is made at once.
        lane_size: how many calls the lane makes at the same time.
        is_awaited: whether it is for the event loop, and not for another thread.
        future: what the event loop gets of it.
        thread_id, native_id: the thread that makes the call, or 0: it has not begun, or is in another process.
        extra_limits: how often it was given more time because it was in no hook.
        is_reported: whether it has been reported as one that blocks.
    """

    lane: object = None
    lane_size: float = 1
    is_awaited: bool = True
    future: asyncio.Future[Any] | None = None
    thread_id: int = 0
    native_id: int = 0
    result: Any = None
    error: BaseException | None = None
    started: bool = False
    ended: bool = False
    extra_limits: int = 0
    is_reported: bool = False

    @property
    def is_over(self) -> bool:
        """``True`` if it has ended, for the event loop too."""
        return self.ended and (not self.is_awaited or (self.future is not None and self.future.done()))

    def start(self) -> None:
        """Note that the calling thread begins the call."""
        self.thread_id, self.native_id = threading.get_ident(), threading.get_native_id()
        self.started = True


class PoolCall:
    """A job's function, as it is given to a pool of threads.

    Args:
        job: the job.
        function: the function.
        around: makes the calling thread part of the run, as a context manager does.
        on_end: called with the job when it has ended.
    """

    __slots__ = ("_around", "_function", "_job", "_on_end")

    def __init__(
        self, job: Job, function: Callable[..., Any], around: Callable[[], Any], on_end: Callable[[Job], object]
    ) -> None:
        self._job, self._function, self._around, self._on_end = job, function, around, on_end

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._job.start()
        try:
            with self._around():
                return self._function(*args, **kwargs)
        finally:
            self._on_end(self._job)
