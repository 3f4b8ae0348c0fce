"""Rounds of virtual time: whoever has something to do at the earliest moment does it; then everybody gets their post.

All who have something to do at one moment do it at once, each in its own process.
"""

from __future__ import annotations

import os
import selectors
from contextlib import suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from ..errors import not_ended_within
from .channel import Broken, Done, Go, Idle, Post, Replaced, Started
from .ends import dump_of, how_it_ended
from .relay import Repeater
from .replaced import note_of_replaced
from .spawning import spawn

if TYPE_CHECKING:
    from pathlib import Path

    from .channel import Channel
    from .spawning import Template

# Times are sums of floats: closer ones are the same, as in the event loop.
_RESOLUTION_S = 1e-6
_KEPT = 1000  # what a process tells is kept until nobody runs, up to as many prints and lines
_END_S = 1.0  # how long a process that has done its work may take to end, once the run is over

State: TypeAlias = Literal["running", "idle", "ended"]


class Member:
    """A process of a run, or the replica in the test's own process.

    Attributes:
        name: its name, for messages.
        order: its place among those that post at the same moment.
        state: ``"running"``, ``"idle"``, or ``"ended"``: with its work, or for good.
        idle: what it last said of itself.
        inbox: what it gets when it goes on.
        posts: what it has for others.
        result: what its work has come to; ``None`` if that has not ended, or never will.
        failure: how it has ended, if not with its work.
    """

    def __init__(self, name: str, order: int) -> None:
        self.name = name
        self.order = order
        self.state: State = "running"
        self.idle = Idle(None, (), "")
        self.inbox: list[Any] = []
        self.posts: list[Any] = []
        self.result: Any = None
        self.failure: Broken | str | None = None

    @property
    def is_due(self) -> bool:
        """``True`` if it has post."""
        return self.state == "idle" and bool(self.inbox)

    def go(self, turn: Go) -> None:
        """Let it go on."""
        self.state = "running"


class ProcessMember(Member):
    """A process of a run."""

    def __init__(self, name: str, order: int, template: Template, channel: Channel, dump_file: Path) -> None:
        super().__init__(name, order)
        self.template = template
        self.channel = channel
        self.dump_file = dump_file
        self.process_id: int | None = None
        self.told: list[Any] = []
        self.replaced: tuple[str, ...] = ()
        self.repeater = Repeater()
        self.heard_s = perf_counter()
        self.is_open = True

    def go(self, turn: Go) -> None:
        """Let it go on."""
        super().go(turn)
        self.heard_s = perf_counter()
        try:
            self.channel.send(turn)
        except OSError:
            return  # it has gone, which the next reading tells

    def hear(self, message: Any) -> None:
        """Take what it says."""
        self.heard_s = perf_counter()
        if isinstance(message, Started):
            self.process_id = message.process_id
        elif isinstance(message, Idle):
            self.state, self.idle = "idle", message
            self.posts += message.posts
        elif isinstance(message, Post):
            self.posts.append(message.content)
        elif isinstance(message, Done):
            self.state, self.result = "ended", message.result
        elif isinstance(message, Replaced):
            self.replaced = message.names
        elif isinstance(message, Broken):
            self.state, self.failure = "ended", message
        else:
            self.told.append(message)

    def repeat(self) -> None:
        """Repeat what it has printed, logged and warned of."""
        told, self.told = self.told, []
        for message in told:
            self.repeater.repeat(message)

    def close(self) -> None:
        """Listen to it no more: it ends by itself, if it has not."""
        self.is_open = False
        self.channel.close()
        if self.state != "ended":
            self.state = "ended"
            self.failure = self.failure or how_it_ended(self.template, self.process_id)


class Rounds:
    """The processes of a run and their time.

    Args:
        hang_s: seconds of real time after which a process that says nothing is killed.
        folder: for what processes write when they hang.
        time_limit_s: virtual seconds after which the run is taken for one that never ends.

    Attributes:
        now_s: the virtual time.
        members: those that have not ended, in their order.
    """

    def __init__(self, hang_s: float, folder: Path, time_limit_s: float) -> None:
        self.time_limit_s = time_limit_s
        self.now_s: float = 0.0
        self.members: list[Member] = []
        self._hang_s = hang_s
        self._folder = folder
        self._selector = selectors.DefaultSelector()
        self._open: list[ProcessMember] = []
        self._silent: list[ProcessMember] = []  # they have ended; what they told is not repeated yet
        self._started = 0
        self._notes: list[str] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """Problems that did not make the run fail; all of them once it is closed."""
        return tuple(dict.fromkeys(self._notes))

    def add(self, member: Member) -> None:
        """Let a member take part."""
        self.members.append(member)
        self.members.sort(key=lambda each: each.order)

    def remove(self, member: Member) -> None:
        """Let a member take part no more."""
        self.members = [each for each in self.members if each is not member]

    def start(self, name: str, order: int, job: Any, imports: tuple[str, ...] = ()) -> ProcessMember:
        """Start a process that does a job, with modules imported; ``job(dump_file)`` is what it is sent."""
        self._started += 1
        dump_file = self._folder / f"dump-{self._started}"
        template, channel = spawn(imports)
        member = ProcessMember(name, order, template, channel, dump_file)
        self._open.append(member)
        self._selector.register(channel, selectors.EVENT_READ, member)
        with suppress(OSError):  # it could not be started, which the first reading tells
            channel.send(job(os.fspath(dump_file)))
        self.add(member)
        return member

    def settle(self) -> bool:
        """Listen until nobody runs. Return whether anybody did."""
        was_running = False
        while any(member.state == "running" for member in self._open):
            was_running = True
            self._listen(0.5)
        self._repeat()
        return was_running

    def next_turn(self) -> list[Member]:
        """Advance the clock to the moment when somebody has something to do. Return those who have; perhaps none."""
        idle = [member for member in self.members if member.state == "idle"]
        times = [member.idle.next_s for member in idle if member.idle.next_s is not None]
        if times and not any(member.is_due for member in idle):
            if min(times) > self.time_limit_s:
                return []
            self.now_s = max(self.now_s, min(times))
        return [
            member
            for member in idle
            if member.is_due or (member.idle.next_s is not None and member.idle.next_s <= self.now_s + _RESOLUTION_S)
        ]

    def go(self, members: list[Member]) -> None:
        """Let members go on, with their post."""
        for member in members:
            inbox, member.inbox = tuple(member.inbox), []
            member.go(Go(self.now_s, inbox))

    def deadlock_message(self) -> str:
        """Return why nothing will happen any more."""
        waiting = [f"{each.name}: {each.idle.waiting}" for each in self.members if each.idle.waiting]
        if any(member.idle.next_s is not None for member in self.members):
            goes_on = [member.name for member in self.members if member.idle.next_s is not None]
            return (
                f"{not_ended_within(self.time_limit_s)} Waiting for a time: {', '.join(goes_on)}; "
                f"for something else: {'; '.join(waiting) or 'nobody'}"
            )
        return (
            "nothing is scheduled and nothing is at work in any process (or has been for ten times real_sleep_limit_s, "
            "after which a test waits no longer), so in production this start would hang for ever. "
            f"Waiting: {'; '.join(waiting)}"
        )

    def kill_all(self) -> None:
        """Kill all processes that have not done their work."""
        for member in [*self._open]:
            if member.state != "ended":
                self.kill(member, "was killed at the end of the run")
        self.members = [member for member in self.members if not isinstance(member, ProcessMember)]

    def kill(self, member: ProcessMember, why: str) -> None:
        """Kill a process. What it has sent is still read."""
        if member.state != "ended":
            member.state, member.failure = "ended", why
        if member.process_id is None:  # it ends when it finds nobody to talk to
            self._forget(member)
        else:
            member.template.kill(member.process_id)

    def close(self) -> None:
        """Let those who have done their work end; kill the others."""
        try:
            self.kill_all()
            deadline_s = perf_counter() + _END_S
            while self._open and (left_s := deadline_s - perf_counter()) > 0:
                self._listen(left_s)
        finally:
            for member in [*self._open]:
                self.kill(member, "")
                self._forget(member)
            self._selector.close()
            self._repeat()

    def _listen(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            member: ProcessMember = key.data
            try:
                is_open = member.channel.read()
                while member.channel.has_message():
                    member.hear(member.channel.take())
                if len(member.told) > _KEPT:  # it tells much: not all of it is kept
                    member.repeat()
            except BaseException:
                self._forget(member)
                raise
            if not is_open:
                self._forget(member)
        self._kill_hung()

    def _forget(self, member: ProcessMember) -> None:
        if member.is_open:
            self._selector.unregister(member.channel)
            member.close()
        if member in self._open:
            self._open.remove(member)
            self._silent.append(member)

    def _repeat(self) -> None:
        """Repeat what processes have told since the last time, in their order: the same in every run."""
        members, self._silent = [*self._open, *self._silent], []
        for member in sorted(members, key=lambda each: each.order):
            member.repeat()
            self._notes += [*member.repeater.refused, *note_of_replaced(member.replaced)]
            member.repeater.refused.clear()
            member.replaced = ()

    def _kill_hung(self) -> None:
        now_s = perf_counter()
        for member in [*self._open]:
            if member.state == "running" and now_s - member.heard_s > self._hang_s:
                dump = dump_of(member.process_id, member.dump_file)
                self.kill(
                    member,
                    f"was killed: for {self._hang_s:g} s of real time (hang_s= of FakeCluster) it neither waited nor "
                    f"answered. Where it was:\n{dump}",
                )
