"""Wait for what is at work for a run, in real time: calls in worker threads, hooks' threads, subprocesses, sockets."""

from __future__ import annotations

import queue
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeAlias

from .bystanders import Bystanders
from .job import Job
from .locations import HookLocation, locate_thread
from .patience import MAX_LIMITS, Patience
from .sleeper import next_change
from .system_clocks import in_run

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterable
    from selectors import SelectorKey

    from .belongings import Started
    from .clock import VirtualClock
    from .sleeper import Sleeper
    from .threads import HookThread

    Events: TypeAlias = list[tuple[SelectorKey, int]]
    OnBlock: TypeAlias = Callable[[HookLocation | None, float], None]
    AtWork: TypeAlias = "Job | Started[Any] | int"  # an int is the descriptor of a socket

# A limit is waited for in this many slices. A job that is in no hook when it is over gets it again, this often.
_SLICES = 8
_EXTRA_LIMITS = 3
# How often it is looked whether threads that do not say so, subprocesses and sockets are still at work: at first, and
# after a few times.
_POLL_S = 0.001
_LONGEST_POLL_S = 0.016
_ROUNDING_S = 1e-9
# A thread that is at work for so long may only wait for a lock.
_LOOK_FOR_LOCKS_S = 0.01
# Who else may wake the loop, where nothing is at work that is known: a thread of the test, or of a library in C.
_SOMEBODY = -1


class RealWork:
    """The real work of one event loop, and how long the loop waits for it.

    Args:
        clock: the loop's clock.
        poll: returns the sockets that are ready, after at most this many seconds.
        has_sockets: returns whether the loop watches sockets.
        awaited_sockets: returns the descriptors of those that somebody may be waiting for.
        limit_s: seconds of real time after which a job is reported.
        on_block: called once for each job that takes longer, with its hook's location and the seconds.
        describe_waiting: returns what the loop's tasks wait for.

    Attributes:
        given_up: what was at work when the clock went on without it.
    """

    def __init__(
        self,
        clock: VirtualClock,
        poll: Callable[[float], Events],
        has_sockets: Callable[[], bool],
        awaited_sockets: Callable[[], Iterable[int]],
        *,
        limit_s: float,
        on_block: OnBlock | None,
        describe_waiting: Callable[[], str],
    ) -> None:
        self.given_up: list[str] = []
        self._clock = clock
        self._belongings = clock.belongings
        self._poll_sockets = poll
        self._has_sockets = has_sockets
        self._awaited_sockets = awaited_sockets
        self._limit_s = limit_s
        self._on_block = on_block
        self._describe_waiting = describe_waiting
        self._bystanders = Bystanders(limit_s)
        self._patience: dict[AtWork, Patience] = {}
        self._waited_s = 0.0  # for which nothing has been charged yet
        self._poll_s = _POLL_S
        self._hook_jobs = 0  # in the threads of sync hooks
        # asyncio is woken through a socket; a queue takes a quarter of the time, and a hook point has two wake-ups.
        self._wakeups: queue.SimpleQueue[Job | None] = queue.SimpleQueue()

    def wake(self) -> None:
        """Wake the loop from another thread: a callback is ready, or a thread has gone to sleep."""
        self._wakeups.put(None)

    def submit(
        self, thread: HookThread, future: asyncio.Future[Any], func: Callable[..., Any], args: tuple[Any, ...]
    ) -> None:
        """Call a function in a thread. The future gets what it returns or raises."""
        job = Job(thread, future=future)

        def call() -> None:
            if not future.cancelled():
                job.start()
                try:
                    with in_run(self._clock):
                        job.result = func(*args)
                except BaseException as error:  # of any kind: the awaiting code decides
                    job.error = error
            self._wakeups.put(job)

        self._belongings.jobs.add(job)
        self._hook_jobs += 1
        thread.pending += 1
        thread.calls.put(call)

    def wait(self, timeout_s: float | None, until_s: float | None) -> Events | None:
        """Wait until something is ready, in real time.

        Args:
            timeout_s: virtual seconds until the next timer of the loop; ``None`` if there is none.
            until_s: the virtual time to which the clock would go on; ``None`` if it could not.

        Returns:
            The sockets that are ready; ``None`` if nothing is, and the clock may go on.
        """
        if self._take_wakeups() or timeout_s == 0:
            return self._poll(0) if self._has_sockets() else []
        self._poll_s = _POLL_S
        if self._hook_jobs and self._clock.next_sleeper() is None:  # one is at work, without looking closer
            events = self._wait_a_slice()
            if events is not None:
                return events
        while self._is_held_up(until_s, self._awaited_sockets()):
            events = self._wait_a_slice()
            if events is not None:
                return events
        if self._take_wakeups():  # from what has ended while it was looked for
            return self._poll(0) if self._has_sockets() else []
        return (self._poll(0) or None) if self._has_sockets() else None

    def wait_for_threads(self, sleeper: Sleeper, until_s: float | None) -> None:
        """Wait, where the loop's own thread sleeps, until all others do, or until it may go on."""
        self._take_wakeups()
        while not sleeper.is_awake and self._is_held_up(until_s, ()):
            self._wait_a_slice()

    def deadlock_message(self) -> str:
        """Return why nothing will happen any more."""
        limit = f"({self._limit_s:g} s of real time), so the test waits no longer"
        if any(isinstance(each, Job) for each in self._patience):
            why = f"what is at work in a thread has not ended after {MAX_LIMITS} times real_sleep_limit_s {limit}"
        elif self._patience.keys() - {_SOMEBODY}:
            why = f"no socket, subprocess or thread has answered within {MAX_LIMITS} times real_sleep_limit_s {limit}"
        else:
            why = "nothing is at work, so in production this start would hang for ever"
        return f"nothing is scheduled and {why}. Waiting: {self._describe_waiting()}"

    def is_pending(self) -> bool:
        """Return whether something is at work that may still wake the loop."""
        return bool(self._belongings.jobs) or bool(self._things_at_work(self._awaited_sockets()))

    def _take_wakeups(self) -> bool:
        """Pass on the results that have come. Return whether another thread has woken the loop."""
        wakeups = self._wakeups
        if wakeups.empty():
            return False
        while not wakeups.empty():
            self._finish(wakeups.get())
        return True

    def _finish(self, job: Job | None) -> None:
        """Pass a job's result on to its future."""
        if job is None:
            return
        job.ended = True
        self._belongings.jobs.discard(job)
        self._hook_jobs -= 1
        job.lane.pending -= 1  # type: ignore[attr-defined]  # a HookThread: only its jobs come here
        future = job.future
        if future is None or future.done():
            return
        if job.error is not None:
            future.set_exception(job.error)
        else:
            future.set_result(job.result)

    def _things_at_work(self, sockets: Iterable[int]) -> list[AtWork]:
        """Return all that is at work, besides the loop's own thread."""
        clock, belongings = self._clock, self._belongings
        return [
            *belongings.jobs_at_work(clock.asleep, others_sleep=clock.next_sleeper() is not None),
            *belongings.others_at_work(clock.asleep),
            *sockets,
        ]

    def _is_held_up(self, until_s: float | None, sockets: Iterable[int]) -> bool:
        """Return whether the clock has to wait for what is at work."""
        clock, limit_s, before = self._clock, self._limit_s, self._patience
        if until_s is not None and not sockets and not self._belongings and clock.next_sleeper() is None:
            return False
        if until_s is not None and until_s <= clock.now_s:  # a thread that spins has let time pass
            return False
        waited_s, self._waited_s = self._waited_s, 0.0
        before_looking = next_change()
        things = self._things_at_work(sockets)
        self._patience = {thing: before.get(thing) or Patience(clock.now_s) for thing in things}
        if until_s is None:  # a last chance, also for what was given up
            somebody = self._patience[_SOMEBODY] = before.get(_SOMEBODY) or Patience(clock.now_s)
            if not things and somebody.waited_s + waited_s >= limit_s - _ROUNDING_S:
                return False
        for thing, patience in self._patience.items():
            patience.charge(waited_s, limit_s - _ROUNDING_S, thing.thread_id if isinstance(thing, Job) else 0)
            if isinstance(thing, Job) and not thing.is_reported and patience.waited_s >= limit_s - _ROUNDING_S:
                self._report(thing, patience)
        busy = [patience for thing, patience in self._patience.items() if not self._is_at_a_lock(thing, patience)]
        if any(not patience.is_over(until_s, limit_s) for patience in busy):
            return True
        if until_s is not None and self._bystanders.may_wake(clock.next_sleeper(), until_s, waited_s):
            return True
        if next_change() != before_looking + 1:
            return True
        if until_s is not None:
            self._tell_given_up()
        return False

    def _is_at_a_lock(self, thing: AtWork, patience: Patience) -> bool:
        """Return whether a thread waits for another one, in C, as in ``with lock:``."""
        if patience.waited_s < _LOOK_FOR_LOCKS_S or isinstance(thing, int):
            return False
        if isinstance(thing, Job):
            may_wait = thing.started and self._clock.next_sleeper() is not None  # for a thread that sleeps
            is_there = may_wait and patience.locks.sees_wait(thing.thread_id, thing.native_id)
        else:
            what = thing.what
            is_there = isinstance(what, threading.Thread) and patience.locks.sees_wait(what.ident or 0, what.native_id)
        if is_there:
            patience.waited_s = _LOOK_FOR_LOCKS_S
        return is_there

    def _tell_given_up(self) -> None:
        """Keep a note of what is at work although the clock goes on."""
        told = []
        for thing, patience in self._patience.items():
            is_quick = patience.waited_s < self._limit_s - _ROUNDING_S  # or at a lock
            if not (patience.is_told or is_quick or isinstance(thing, Job)):
                patience.is_told = True
                told.append(self._describe_waiting() if isinstance(thing, int) else str(thing))
        if told:
            self.given_up.append("; ".join(dict.fromkeys(told)))

    def _report(self, job: Job, patience: Patience) -> None:
        """Report a job that has reached the limit, or give it the limit again if it is in no hook."""
        location = locate_thread(job.thread_id)
        if location is None and job.extra_limits < _EXTRA_LIMITS:  # its hook may be about to begin, or to end
            job.extra_limits += 1
            patience.waited_s = 0.0
            return
        job.is_reported = True
        if self._on_block is not None:
            self._on_block(location, patience.waited_s)

    def _poll(self, seconds: float) -> Events:
        """Return the sockets that are ready. Each has the limit to itself again."""
        events = self._poll_sockets(seconds)
        for key, _ in events:
            self._patience.pop(key.fd, None)
        return events

    def _wait_a_slice(self) -> Events | None:
        """Wait a little. Return the sockets that are ready, perhaps none, if the loop was woken; else ``None``.

        What is at work is charged for the time that was asked for, even if it took longer: a busy machine holds up the
        work as well.
        """
        belongings, sockets = self._belongings, self._has_sockets()
        seconds = self._limit_s / _SLICES
        self._poll_s = min(2 * self._poll_s, _LONGEST_POLL_S)
        if belongings.jobs or belongings.threads or belongings.processes:
            if sockets or belongings.threads or belongings.processes or self._clock.next_sleeper():
                seconds = min(seconds, self._poll_s)
            begun_s = perf_counter()
            try:
                self._finish(self._wakeups.get(timeout=seconds))
                return self._poll(0) if sockets else []
            except queue.Empty:
                events = self._poll(0) if sockets else []
            seconds = min(perf_counter() - begun_s, seconds)
        else:
            events = self._poll(seconds)
        self._waited_s += seconds
        return events or None
