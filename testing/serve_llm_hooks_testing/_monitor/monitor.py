"""Observe one run: hooks that block their thread or the event loop, threads that hooks leave behind."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from .._virtual_time.locations import locate_thread
from .._virtual_time.loop import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from .._virtual_time.locations import HookLocation

    MakeLoop: TypeAlias = Callable[..., VirtualLoop]


class Monitor:
    """The event loop of one run, and notes about it for the author of the test.

    Args:
        limit_s: seconds of real time for which a hook may block.
        make_loop: makes the loop.
    """

    def __init__(self, limit_s: float, make_loop: MakeLoop = VirtualLoop) -> None:
        self.loop = make_loop(real_sleep_limit_s=limit_s, on_block=self._note_blocked_thread)
        self.loop_thread_id = threading.get_ident()
        self.sample_every_s = max(limit_s / 4, 0.005)
        self.notes: list[str] = []
        self._limit_s = limit_s
        self._started: list[tuple[threading.Thread, HookLocation | None]] = []
        self._frame: object = None  # of the async hook in the last sample
        self._blocked_s = 0.0
        self._sampled_s = 0.0
        self._reported: set[str] = set()

    def sample(self) -> None:
        """Note the async hook that holds up the event loop, if one does. Called from the watchdog's thread."""
        now_s = time.perf_counter()
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

    def add_thread(self, thread: threading.Thread, location: HookLocation | None) -> None:
        """Record a thread that was started during the run; the clock waits for it."""
        self._started.append((thread, location))
        self.loop.threads.append(thread)

    def note_skipped_waits(self) -> None:
        """Note where the clock went on although an answer may only have been slow: perhaps why the run failed."""
        for waiting in self.loop.given_up:
            self._note(
                f"{waiting}: the clock went on without an answer from a socket, a subprocess or a thread that took "
                f"more than {self._limit_s:g} s of real time, so a timeout may have fired that would not have in "
                "production. In a test, put something quick in its place (real_sleep_limit_s= of FakeCluster is the "
                "limit)"
            )

    def note_remaining_threads(self) -> None:
        """Note the threads that are still alive after the run."""
        self._frame = None
        for thread, location in self._started:
            if thread.name.startswith("asyncio_"):  # the loop's default executor's
                continue
            thread.join(0.05)  # it may be about to end
            if thread.is_alive():
                self._note(f"{location or 'the run'} left a thread behind: {thread.name!r} is still running")

    def _note_blocked_thread(self, location: HookLocation | None, seconds: float) -> None:
        self._note(
            f"{location or 'a sync hook'} really blocks, for more than {self._limit_s:g} s of real time. In a test, "
            "let it work on something small; if it must wait, make it async and await asyncio.sleep(), which takes no "
            "time here (real_sleep_limit_s= of FakeCluster is the limit)"
        )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
