"""Virtual time: what time it is, and the threads that sleep until it is later."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
from contextlib import contextmanager
from time import monotonic, perf_counter, time
from typing import TYPE_CHECKING, NamedTuple

from .belongings import Belongings
from .sleeper import Sleeper, next_change

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# Virtual times are sums of floats: they are kept in whole nanoseconds, so that 0.1 and 0.2 are 0.3.
_DIGITS = 9
# A thread that catches what ends it is told so this often. After that it waits for the end of the run.
_TELLS = 100


class Beginning(NamedTuple):
    """The system's clocks when a run began, in whole seconds, so that adding to them loses little."""

    time: int
    monotonic: int
    perf_counter: int


def read_system_clocks() -> Beginning:
    """Return the beginning of a run that begins now. Rounded up: no clock goes back when a run begins."""
    return Beginning(math.ceil(time()), math.ceil(monotonic()), math.ceil(perf_counter()))


class VirtualClock:
    """The clock of one run. It stands still until the event loop's thread advances it.

    Args:
        wake_loop: wakes the event loop's thread, where it waits for others.
        sleep_in_loop: called where the event loop's own thread would sleep; returns when the sleeper is awake.

    Attributes:
        now_s: virtual seconds since the run began.
        is_over: whether the run is over.
        wake_loop: as given.
        belongings: what is at work besides the event loop.
        asleep: by thread id, the threads that wait.
        asleep_at_end: the ids of those that waited when the run was over.
        beginning: the system's clocks when the run began.
    """

    def __init__(self, wake_loop: Callable[[], object], sleep_in_loop: Callable[[Sleeper], object]) -> None:
        self.now_s: float = 0.0
        self.is_over: bool = False
        self.belongings: Belongings = Belongings()
        self.asleep: dict[int, Sleeper] = {}
        self.asleep_at_end: frozenset[int] = frozenset()
        self.beginning: Beginning = read_system_clocks()
        self._loop_thread_id = threading.get_ident()
        self.wake_loop = wake_loop
        self._sleep_in_loop = sleep_in_loop
        self._order = itertools.count()
        self._sleepers: list[Sleeper] = []  # a heap of those that wait for a time
        self._stubborn: list[Sleeper] = []  # of threads that do not end with their process
        self._lock = threading.Lock()

    @property
    def is_loop_thread(self) -> bool:
        """``True`` if the calling thread is the event loop's own."""
        return threading.get_ident() == self._loop_thread_id

    def move_here(self) -> None:
        """Let the event loop go on in the calling thread."""
        self._loop_thread_id = threading.get_ident()

    def next_order(self) -> int:
        """Return the place of a timer among all that are due at its time: first made, first due."""
        return next(self._order)

    def rounded(self, when_s: float) -> float:
        """Return a time without the errors of adding floats; but for a time to come, never one that has come.

        Example:
            >>> clock = VirtualClock(print, print)
            >>> clock.rounded(0.1 + 0.2)
            0.3
            >>> clock.now_s = 0.3
            >>> clock.rounded(0.1 + 0.2)  # code that waits for just this moment must come to it
            0.30000000000000004
        """
        rounded = round(when_s, _DIGITS)
        return when_s if rounded <= self.now_s < when_s else rounded

    def make_sleeper(self, seconds: float | None, line: object = None) -> Sleeper:
        """Return a sleeper for so many virtual seconds; ``None``: until another thread wakes it."""
        return Sleeper(None if seconds is None else self.rounded(self.now_s + seconds), self.next_order(), line)

    def sleep(self, sleeper: Sleeper) -> None:
        """Sleep in the calling thread until the sleeper is awake."""
        if self.is_loop_thread:
            self._sleep_in_loop(sleeper)
            return
        with self.asleep_in_c(sleeper):
            sleeper.wait()
        end_if_killed(sleeper)

    @contextmanager
    def asleep_in_c(self, sleeper: Sleeper) -> Iterator[None]:
        """Let the calling thread be asleep in the ``with`` block, which it leaves when the sleeper is awake."""
        thread_id = threading.get_ident()
        next_change()
        with self._lock:
            process = sleeper.process
            if process is not None and process.is_over and process.told_to_end < _TELLS:
                process.told_to_end += 1
                sleeper.wake(by_clock=True)
            elif process is not None and process.is_over and not self.is_over:
                self._stubborn.append(sleeper)
                self.asleep[thread_id] = sleeper
            elif not self.is_over:
                if sleeper.until_s is not None:
                    heapq.heappush(self._sleepers, sleeper)
                self.asleep[thread_id] = sleeper
            elif sleeper.until_s is not None:
                sleeper.wake(by_clock=True)
        self.wake_loop()
        try:
            yield
        finally:
            self.asleep.pop(thread_id, None)
            sleeper.wake()

    def next_sleeper(self) -> Sleeper | None:
        """Return the thread that wakes up next, of those that wait for a time."""
        if not self._sleepers:
            return None
        with self._lock:
            while self._sleepers and self._sleepers[0].is_awake:
                heapq.heappop(self._sleepers)
            return self._sleepers[0] if self._sleepers else None

    def wake_the_dead(self) -> None:
        """Let the threads of processes that are over go on, to their end."""
        with self._lock:
            for sleeper in tuple(self.asleep.values()):
                if sleeper.process is not None and sleeper.process.is_over:
                    sleeper.wake(by_clock=True)

    def end(self) -> None:
        """End the run: who waits for a time goes on, and waits for the rest of it in real time."""
        with self._lock:
            self.is_over = True
            self.asleep_at_end = frozenset(self.asleep)
            for sleeper in self._sleepers:
                sleeper.wake(by_clock=True)
            for sleeper in self._stubborn:
                sleeper.wake(by_clock=True)
            self._sleepers.clear()


def end_if_killed(sleeper: Sleeper) -> None:
    """End the calling thread if its process is over. A real one ends without a word; this one may clean up.

    Raises:
        SystemExit: it is; a thread ends with this, and says nothing.
    """
    if sleeper.process is not None and sleeper.process.is_over:
        raise SystemExit
