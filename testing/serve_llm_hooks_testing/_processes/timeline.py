"""Virtual time that several processes share: a process asks before its clock goes on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from .._virtual_time.loop import VirtualLoop
from ..errors import DeadlockError
from .channel import Go, Idle, end_if_alone

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._virtual_time.clock import Beginning
    from .channel import Channel


class Timeline(Protocol):
    """One process's part in the time of a run.

    Attributes:
        posts: what the process has for others; they get it when it is idle.
        take: called with each message from others, in the event loop.
    """

    posts: list[Any]
    take: Callable[[Any], object]

    def wait_for_turn(self, idle: Idle) -> Go:
        """Say that this process is idle, and wait until it has something to do."""
        ...


class RemoteTimeline:
    """The timeline of a process that the test's process has started."""

    def __init__(self, channel: Channel) -> None:
        self.posts: list[Any] = []
        self.take: Callable[[Any], object] = print
        self._channel = channel

    def wait_for_turn(self, idle: Idle) -> Go:
        """Say that this process is idle, and wait until it has something to do."""
        try:
            self._channel.send(idle)
            turn: Go = self._channel.receive()
        except (EOFError, OSError) as error:
            end_if_alone(error, self._channel)
            raise
        return turn


class SharedTimeLoop(VirtualLoop):
    """A virtual loop that advances its clock only when the other processes have nothing to do before.

    Args:
        timeline: its part in the time of the run.
        now_s: the virtual time at which it begins.
        beginning: the system's clocks when the run began, as its first process has read them; ``None`` in that one.
        arguments: those of :class:`VirtualLoop`. The run's other limits are the test's process's affair.
    """

    never_s = math.inf  # others may have something to do, and then this process

    def __init__(self, timeline: Timeline, now_s: float, beginning: Beginning | None = None, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._timeline = timeline
        if beginning is not None:
            self.clock.beginning = beginning
        VirtualLoop._set_time(self, now_s)

    def advance_to(self, when_s: float | None) -> None:
        """Wait until this process has something to do: at that time, or earlier if it gets post.

        Raises:
            DeadlockError: no process ever will.
        """
        never = when_s is None or when_s == math.inf
        posts, self._timeline.posts = tuple(self._timeline.posts), []
        turn = self._timeline.wait_for_turn(
            Idle(None if never else when_s, posts, self._describe_waiting() if never else "")
        )
        if turn.deadlock:
            raise DeadlockError(turn.deadlock)
        super()._set_time(turn.now_s)
        for message in turn.inbox:
            self.call_soon(self._timeline.take, message)

    def _set_time(self, when_s: float) -> None:
        """Advance the clock where a hook blocks the loop: what the process gets meanwhile has to wait."""
        while self.clock.now_s < when_s:
            self.advance_to(when_s)
