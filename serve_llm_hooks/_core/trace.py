"""``Trace``: which hooks ran where, when, for how long, and how each ended.

It is written in the hottest loop of the library, so it is written as a list of clock readings per batch of hooks; the
``HookEvent`` objects are made on reading.
"""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, Protocol

from .event import DID_NOT_RUN, HookEvent, StartStep
from .node import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from .event import HookOutcome
    from .points import HookName


class Call(Protocol):
    """The part of a hook that a trace records."""

    @property
    def point(self) -> HookName: ...
    @property
    def ref(self) -> str: ...
    @property
    def is_finish(self) -> bool: ...


class Batch:
    """Hooks of one point that run one after another in one thread.

    Attributes:
        hooks: the hooks.
        times: hook ``i`` starts at ``times[i]`` and ends at ``times[i + 1]``.
        outcomes: by index, of the hooks whose outcome is not ``"ok"``, with the detail.
    """

    __slots__ = ("hooks", "outcomes", "times")

    def __init__(self, hooks: Sequence[Call]) -> None:
        self.hooks: Sequence[Call] = hooks
        self.times: list[float] = []
        self.outcomes: dict[int, tuple[HookOutcome, str]] = {}


class OpenStep:
    """A step that has begun.

    Attributes:
        size_bytes: what it has brought, once that is known.
    """

    size_bytes: int | None = None


class Trace:
    """The hook calls of one run, in the order in which they were started in each process, and the run's other steps.

    Iterating gives :class:`HookEvent`; ``str(trace)`` is a small table of them.

    Attributes:
        steps: the steps of the start that are no hooks, as far as they are over.

    Example:
        >>> trace = Trace(node_id="node-1")
        >>> [event.name for event in trace]
        []
    """

    def __init__(
        self,
        *,
        node_id: str = "",
        address: str = "",
        hostname: str = "",
        clock: Callable[[], float] = time.perf_counter,
        epoch_s: float | None = None,
    ) -> None:
        self.node: Node = Node(node_id, address, hostname)
        self.process_id: int = os.getpid()
        self.clock = clock
        # perf_counter means nothing in another process, and the wall clock can be stepped: so the one, anchored once.
        self.epoch_s: float = time.time() - clock() if epoch_s is None else epoch_s
        self._parts: list[Batch | HookEvent | Trace] = []
        self.steps: tuple[StartStep, ...] = ()

    @property
    def node_id(self) -> str:
        """The node on which the calls that are recorded here run."""
        return self.node.node_id

    def batch(self, hooks: Sequence[Call]) -> Batch:
        """Begin a batch. Times that are written into it are in the trace at once."""
        batch = Batch(hooks)
        self._parts.append(batch)
        return batch

    def extend(self, events: Iterable[HookEvent]) -> None:
        """Add events that another process recorded."""
        self._parts.extend(events)

    @contextmanager
    def step(self, name: str, begun_s: float | None = None) -> Iterator[OpenStep]:
        """Record a step: what happens inside the ``with`` block.

        Args:
            name: which step.
            begun_s: when it began, by the clock of this trace; left out, now.
        """
        open_step = OpenStep()
        begun_s = self.clock() if begun_s is None else begun_s
        failed = True
        try:
            yield open_step
            failed = False
        finally:
            self.add_step(name, begun_s, failed=failed, size_bytes=open_step.size_bytes)

    def add_step(self, name: str, begun_s: float, *, failed: bool = False, size_bytes: int | None = None) -> None:
        """Record a step that is over now, and began when the clock of this trace showed ``begun_s``."""
        node_id, *place = self.node
        times = (self.epoch_s + begun_s, self.epoch_s + self.clock())
        self.steps += (StartStep(name, node_id, self.process_id, *times, failed, size_bytes, *place),)

    def beside(self) -> Trace:
        """Return a trace for calls beside the others, whose events are here too, in the place at which it was made."""
        trace = Trace(**self.node._asdict(), clock=self.clock, epoch_s=self.epoch_s)
        self._parts.append(trace)
        return trace

    def did_not_run(
        self,
        hook: Call,
        outcome: Literal["disabled", "skipped", "replayed"],
        why: str,
        *,
        node: Node | None = None,
        since_s: float | None = None,
    ) -> None:
        """Record that a hook would have run now, but is turned off, left out, or has been waited for.

        Args:
            hook: the hook.
            outcome: what has become of it.
            why: the reason.
            node: the node; left out, this process's.
            since_s: when waiting for it began, by the trace's clock; left out, now.
        """
        now_s = self.epoch_s + self.clock()
        node_id, address, hostname = self.node if node is None else node
        self._parts.append(
            HookEvent(
                hook.point,
                hook.ref,
                node_id,
                self.process_id,
                now_s if since_s is None else self.epoch_s + since_s,
                now_s,
                outcome,
                why,
                address,
                hostname,
                is_finish=hook.is_finish,
            )
        )

    @property
    def running(self) -> str | None:
        """The hook that is running in this process, as ``module:qualname``; ``None`` if none is."""
        part = next((part for part in reversed(self._parts) if not isinstance(part, Trace)), None)
        if not isinstance(part, Batch):
            return None
        begun = len(part.times)  # read once: the hooks' thread may append at any moment
        return part.hooks[begun - 1].ref if 0 < begun <= len(part.hooks) else None

    @property
    def events(self) -> tuple[HookEvent, ...]:
        """The events so far."""
        return tuple(self)

    def __iter__(self) -> Iterator[HookEvent]:
        for part in tuple(self._parts):
            if isinstance(part, HookEvent):
                yield part
            elif isinstance(part, Trace):
                yield from part
            else:
                yield from self._expand(part)

    def __getitem__(self, index: int) -> HookEvent:
        return self.events[index]

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        outcomes = [event.outcome for event in self]
        off = {outcome: outcomes.count(outcome) for outcome in DID_NOT_RUN if outcome in outcomes}
        others = "".join(f", {count} {outcome}" for outcome, count in off.items())
        from .messages import counted

        return f"<Trace of {counted(len(outcomes) - sum(off.values()), 'hook call')}{others}>"

    def __str__(self) -> str:
        events = self.events
        if not events:
            return "(no hook ran)"
        first_s = min(event.start_s for event in events)
        rows = [("start", "took", "point", "hook", "node", "pid", "outcome")]
        rows += [
            (
                f"{event.start_s - first_s:9.3f} s",
                f"{event.duration_s:8.3f} s",
                event.point,
                event.label,
                f"{Node(event.node_id, event.address, event.hostname).label} {event.process}".rstrip(),
                str(event.process_id),
                f"{event.outcome}: {event.detail}" if event.detail else event.outcome,
            )
            for event in events
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        )

    def _repr_html_(self) -> str:
        """Return the picture that notebooks show."""
        from .bars import bars_of
        from .picture import svg_of

        return svg_of(bars_of(self.events, self.steps))

    def _expand(self, batch: Batch) -> Iterator[HookEvent]:
        times = batch.times
        epoch_s = self.epoch_s
        node_id, address, hostname = self.node
        for index in range(len(times) - 1):
            outcome, detail = batch.outcomes.get(index, ("ok", ""))
            hook = batch.hooks[index]
            yield HookEvent(
                hook.point,
                hook.ref,
                node_id,
                self.process_id,
                epoch_s + times[index],
                epoch_s + times[index + 1],
                outcome,
                detail,
                address,
                hostname,
                is_finish=hook.is_finish,
            )

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (self.node, self.process_id, self.events, self.steps))


def _rebuild(node: Node, process_id: int, events: Iterable[HookEvent], steps: tuple[StartStep, ...] = ()) -> Trace:
    trace = Trace(**node._asdict())
    trace.process_id = process_id
    trace.extend(events)
    trace.steps = steps
    return trace
