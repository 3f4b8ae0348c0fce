"""The data between the replica and the engine's processes: ``ProcessTask`` there, ``ProcessReport`` back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._core.named_tuple import NamedTuple
from .._core.process_context import process_name

if TYPE_CHECKING:
    from .._core.event import HookEvent
    from .._core.node import Node
    from .._core.options import OnError
    from .._core.points import Role
    from .._node.task import PackedHook


class Process(NamedTuple):
    """A process of an engine.

    Attributes:
        role: its part in the engine.
        rank: a worker's number among all of the engine; ``None`` for other processes.
        is_worker_too: ``True`` for the core of an engine that has no other worker: it does a worker's work as well.
    """

    role: Role
    rank: int | None = None
    is_worker_too: bool = False

    @property
    def name(self) -> str:
        """The process, as traces and errors name it: ``"worker-1"``."""
        return process_name(self.role, self.rank)

    @property
    def reads_weights(self) -> bool:
        """``True`` if it waits for what works in the background until it begins: others read the config only."""
        return self.role == "worker" or self.is_worker_too

    def runs(self, hook: PackedHook) -> bool:
        """Return True if a hook runs in this process, by its ``roles=``."""
        if not hook.roles:
            return self.role != "inspection"
        return self.role in hook.roles or (self.is_worker_too and "worker" in hook.roles)


class ProcessTask(NamedTuple):
    """The work for each process of one engine: hooks that have not run yet, and the data for them.

    Attributes:
        model_id: the model's id, as clients name it.
        node: the node of the replica.
        hooks: the hooks, in their order; which of them run in a process is known there.
        custom_data: the replica's ``custom_data``, pickled key by key.
        on_error: the error policy of hooks that have none of their own.
        waits_for: what works in the background, and workers wait for, in words; empty if nothing does.
    """

    model_id: str
    node: Node
    hooks: tuple[PackedHook, ...]
    custom_data: tuple[tuple[str, bytes], ...]
    on_error: OnError
    waits_for: str = ""


class ProcessReport(NamedTuple):
    """The hook calls in one process, and the failure that ended them.

    Attributes:
        process: the process.
        process_id: the operating system's id of it.
        node: the node that it runs on.
        events: the hook calls there.
        running: the hook that is being called; empty before and after them. In the report of a process that has died,
            the one in which it did.
        failure: the error that ended its hooks: one of this library's, with the traceback in a note.
    """

    process: Process
    process_id: int
    node: Node
    events: tuple[HookEvent, ...] = ()
    running: str = ""
    failure: Exception | None = None
