"""Observe one run: hooks that block their thread or the event loop, threads that hooks leave behind."""

from __future__ import annotations

import asyncio
import atexit
import threading
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING

from .._apart.thread_data import ThreadData
from .._virtual_time.abandoned import close_at_once
from .._virtual_time.idle import is_idle
from .._virtual_time.locations import current_frames, locate_thread
from .._virtual_time.locks import waits_for_lock
from .._virtual_time.loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from .._virtual_time.locations import HookLocation

    MakeLoop: TypeAlias = Callable[..., VirtualLoop]

TIME_LIMIT_S = 36_000.0
"""Virtual seconds after which a run is taken for one that never ends, unless its cluster says otherwise."""

MOST_KEPT = 16
"""So many loops are kept at once."""

_kept: deque[Monitor] = deque()


@atexit.register
def _abandon_all() -> None:
    while _kept:
        _kept.pop().abandon()


class Monitor:
    """The event loop of one run, and notes about it for the author of the test.

    Args:
        limit_s: seconds of real time for which a hook may block.
        time_limit_s: virtual seconds after which the run is taken for one that never ends.
        make_loop: makes the loop.

    Attributes:
        loop: the event loop.
        notes: the notes.
        thread_data: the thread-local data that the loop's thread had before the run.
        is_kept: whether the loop stands still at the end of its ``with`` block, and is not closed.
    """

    def __init__(self, limit_s: float, time_limit_s: float = TIME_LIMIT_S, make_loop: MakeLoop = VirtualLoop) -> None:
        self.loop = make_loop(
            real_sleep_limit_s=limit_s,
            time_limit_s=time_limit_s,
            on_block=self._note_blocked_thread,
            on_sleep=self._note_sleep_in_loop,
        )
        self.is_kept = False
        self.loop_thread_id = threading.get_ident()
        self.sample_every_s = max(limit_s / 4, 0.005)
        self.notes: list[str] = []
        self.thread_data = ThreadData()
        self._limit_s = limit_s
        self._sleeping: HookLocation | None = None  # the hook that last slept in the event loop's thread
        self._slept_s = 0.0
        self._frame: object = None  # of the async hook in the last sample
        self._blocked_s = 0.0
        self._sampled_s = 0.0
        self._reported: set[str] = set()

    def keep(self) -> None:
        """Keep the loop for what is to happen in it later. Only the last ones are kept: each holds open files."""
        self.is_kept = True
        self.loop.stand_still()
        _kept.append(self)
        if len(_kept) > MOST_KEPT:
            _kept.popleft().abandon()

    def abandon(self) -> None:
        """Close the loop: what stands still in it never goes on."""
        close_at_once(self.loop, asyncio.all_tasks(self.loop))

    def go_on(self) -> None:
        """Let the loop go on in this thread."""
        self.is_kept = False
        if self in _kept:
            _kept.remove(self)
        self.notes = []
        self.loop_thread_id = threading.get_ident()
        self.loop.clock.move_here()
        self.thread_data = ThreadData()

    def sample(self) -> None:
        """Note the async hook that holds up the event loop, if one does. Called from the watchdog's thread."""
        now_s = perf_counter()
        # A late sample means that the machine is busy, which holds up the loop too: the hook is charged for less.
        elapsed_s = min(now_s - self._sampled_s, 1.5 * self.sample_every_s)
        self._sampled_s = now_s
        location = locate_thread(self.loop_thread_id) if self.loop.is_busy else None
        if location is None:
            self._frame = None
            return
        if self._frame is not location.frame:
            self._frame, self._blocked_s = location.frame, 0.0
        else:
            self._blocked_s += elapsed_s
        if self._blocked_s > self._limit_s and location.hook not in self._reported:
            self._reported.add(location.hook)
            self._note(
                f"{location} blocks the event loop, for more than {self._limit_s:g} s of real time: while it does, no "
                "timeout fires and the replica answers nobody. Make it a plain def, or await what it waits for"
            )

    def note_skipped_waits(self) -> None:
        """Note where the clock went on although an answer may only have been slow, so that the run may be a lie."""
        for waiting in self.loop.given_up:
            self._note(
                f"{waiting}: the clock went on without an answer from a socket, a subprocess or a thread that took "
                f"more than {self._limit_s:g} s of real time, so a timeout may have fired that would not have in "
                "production. In a test, put something quick in its place (real_sleep_limit_s= of FakeCluster: what is "
                "at work is waited for ten times as long)"
            )

    def note_remains(self) -> None:
        """Note the tasks and threads that are still at work after the run. Idle threads are no problem."""
        self._frame = self._sleeping = None
        clock = self.loop.clock
        for location in clock.belongings.abandoned:
            self._note(
                f"{location} went on although it was cancelled, as at a timeout or the end of the run. So it would in "
                "production, behind whatever comes next. Catch Exception, not everything: a bare `except:` takes "
                "CancelledError too"
            )
        for started in clock.belongings.threads:
            thread = started.what
            if thread.ident in clock.asleep_at_end or not _is_at_work(thread):
                continue
            thread.join(0.05)  # it may be about to end, or to be idle
            if _is_at_work(thread):
                where = started.by or "the run"
                self._note(f"{where} left a thread behind: {thread.name!r} is still at work")

    def _note_blocked_thread(self, location: HookLocation | None, seconds: float) -> None:
        self._note(
            f"{location or 'a sync hook'} really blocks, for more than {self._limit_s:g} s of real time. In a test, "
            "let it work on something small; if it must wait, time.sleep() takes no time here, and in async hooks "
            "asyncio.sleep() (real_sleep_limit_s= of FakeCluster is the limit)"
        )

    def _note_sleep_in_loop(self, location: HookLocation | None, seconds: float) -> None:
        if location is None:
            return
        if self._sleeping is None or self._sleeping.frame is not location.frame:
            self._slept_s = 0.0
        self._sleeping = location
        self._slept_s += seconds
        if self._slept_s > self._limit_s and location.hook not in self._reported:
            self._reported.add(location.hook)
            self._note(
                f"{location} blocks the event loop, for more than {self._limit_s:g} s: time.sleep() and waiting for "
                "threads do so in an async hook, and no timeout fires and the replica answers nobody meanwhile. Make "
                "it a plain def, or await asyncio.sleep()"
            )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _is_at_work(thread: threading.Thread) -> bool:
    frame = current_frames().get(thread.ident or 0)
    return thread.is_alive() and not is_idle(frame) and not waits_for_lock(thread.native_id)
