"""``HookEvent`` and ``StartStep``: what a trace is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from .named_tuple import NamedTuple

if TYPE_CHECKING:
    from .points import HookName


HookOutcome: TypeAlias = Literal[
    "ok", "vetoed", "failed", "warned", "timed_out", "cancelled", "disabled", "skipped", "replayed"
]


DID_NOT_RUN: tuple[HookOutcome, ...] = ("disabled", "skipped", "replayed")


class HookEvent(NamedTuple):
    """One call of one hook, or a call that did not happen: the hook is turned off, or a veto left it out.

    Attributes:
        point: the hook point.
        hook: the hook, as ``module:qualname``; with the names of its parameters, and ``#2`` for the second hook that
            is written so.
        node_id: the node on which it ran, or would have run; the replica's for a skipped one.
        process_id: the operating system's id of the process in which it ran; of the replica's where it did not run.
        start_s: when it started: seconds since the epoch (virtual seconds on a fake cluster).
        end_s: when it ended, likewise.
        outcome: ``"ok"``; ``"vetoed"``; ``"failed"``; ``"warned"`` (failed, with ``on_error="warn"``);
            ``"timed_out"``; ``"cancelled"``; ``"disabled"`` (it did not run: ``SERVE_LLM_HOOKS_DISABLE``);
            ``"skipped"`` (it did not run: a veto left its point out); ``"replayed"`` (it did not run here: another
            process on the node has, and its result was taken: ``once_per_node=``).
        detail: the reason of a veto, the error in one line, why it did not run, or which process has run it.
        address: the node's IP address; empty where it is not known.
        hostname: the node's name; empty where it is not known.
        process: the process of the engine in which it ran, as ``"worker-1"``; empty for all other processes.
        is_finish: ``True`` for what follows the ``yield`` of a hook: a hook with one has two events.
    """

    point: HookName
    hook: str
    node_id: str
    process_id: int
    start_s: float
    end_s: float
    outcome: HookOutcome = "ok"
    detail: str = ""
    address: str = ""
    hostname: str = ""
    process: str = ""
    is_finish: bool = False

    @property
    def label(self) -> str:
        """The hook, and whether this is the second of its parts, as tables and reports show it."""
        return f"{self.hook} (finish)" if self.is_finish else self.hook

    @property
    def name(self) -> str:
        """The hook's bare function name."""
        return path_in(self.hook).rpartition(":")[2].rpartition(".")[2]

    @property
    def title(self) -> str:
        """The hook as pictures show it: its function, or the class of a method that is named after the point."""
        number = self.hook.rpartition(":")[2].partition("#")[2]
        written = path_in(self.hook).rpartition(":")[2].rpartition("<locals>.")[2].removesuffix(f".{self.point}")
        return f"{written}#{number}" if number else written

    @property
    def ran(self) -> bool:
        """``True`` if the hook was called, however that ended."""
        return self.outcome not in DID_NOT_RUN

    @property
    def duration_s(self) -> float:
        """The duration of the call, in seconds."""
        return self.end_s - self.start_s


def path_in(ref: str) -> str:
    """Return the path of a hook as errors and traces write it: without its parameters and number.

    Example:
        >>> path_in("hooks (1):fetch(token=…)#2")
        'hooks (1):fetch'
    """
    module, colon, name = ref.rpartition(":")
    return module + colon + name.partition("(")[0].partition("#")[0]


class StartStep(NamedTuple):
    """One step of a start that is no hook: a wait, a download, the engine.

    Attributes:
        name: which step: ``"start"`` is all of it; ``"imports"``, ``"placement group"``, ``"nodes"`` (from the sending
            of their tasks to the last answer) and ``"engine"`` are the replica's; ``"node"`` (its task, without the
            start of its process) and ``"download"`` a node's; others are steps of the engine itself.
        node_id: the node on which it was.
        process_id: the operating system's id of the process in which it was.
        start_s: when it started: seconds since the epoch (virtual seconds on a fake cluster).
        end_s: when it ended, likewise.
        failed: ``True`` if an error, or a cancellation, ended it.
        size_bytes: what a download brought; ``None`` where that is not known.
        address: the node's IP address; empty where it is not known.
        hostname: the node's name; empty where it is not known.
        process: the process of the engine in which it was, as ``"core"``; empty for all other processes.

    Example:
        >>> StartStep("download", "node-1", 7, 2.0, 12.0, size_bytes=5_000).bytes_per_s
        500.0
    """

    name: str
    node_id: str
    process_id: int
    start_s: float
    end_s: float
    failed: bool = False
    size_bytes: int | None = None
    address: str = ""
    hostname: str = ""
    process: str = ""

    @property
    def duration_s(self) -> float:
        """The duration, in seconds."""
        return self.end_s - self.start_s

    @property
    def bytes_per_s(self) -> float | None:
        """The rate of a download; ``None`` where its size is not known."""
        return None if self.size_bytes is None or self.duration_s <= 0 else self.size_bytes / self.duration_s
