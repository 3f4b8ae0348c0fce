"""Virtual time that several processes share: a process asks before its clock goes on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Protocol

from .._virtual_time.loop import VirtualLoop
from ..errors import DeadlockError
from .channel import Go, Idle, end_if_alone

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._virtual_time.waiting import OnBlock
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
        real_sleep_limit_s, on_block: as in :class:`VirtualLoop`.
    """

    def __init__(
        self, timeline: Timeline, now_s: float, *, real_sleep_limit_s: float = 1.0, on_block: OnBlock | None = None
    ) -> None:
        super().__init__(real_sleep_limit_s=real_sleep_limit_s, on_block=on_block)
        self.now_s = now_s
        self._timeline = timeline
        self._has_given_up = False

    def wait(self, timeout_s: float | None) -> Any:
        """Wait for real work, or for this process's turn, where asyncio would sleep."""
        return super().wait(math.inf if timeout_s is None else timeout_s)

    def advance_to(self, when_s: float | None) -> None:
        """Wait until this process has something to do: at that time, or earlier if it gets post.

        Raises:
            DeadlockError: no process ever will.
        """
        posts, self._timeline.posts = tuple(self._timeline.posts), []
        never = when_s is None or when_s == math.inf
        turn = self._timeline.wait_for_turn(
            Idle(
                next_s=None if never else when_s,
                posts=posts,
                waiting=self._describe_waiting() if never else "",
                is_at_work=never and not self._has_given_up and self._work.is_pending(),
            )
        )
        if turn.deadlock:
            raise DeadlockError(turn.deadlock)
        self.now_s = turn.now_s
        for message in turn.inbox:
            self.call_soon(self._timeline.take, message)
        # As where there is one process, slow work is waited for longer if nothing else can happen.
        self._has_given_up = turn.is_stuck and self._work.wait(None) is None
