"""What a run on a fake cluster tells."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.points import HOOK_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from serve_llm_hooks import (
        CallbackCtx,
        DownloadMode,
        Hook,
        HookName,
        InitializeNodeOutput,
        NodeResult,
        Trace,
    )

    from .engine import FakeEngine
    from .faults import Fault

__all__ = ["FakeNode", "FakeRun"]


@dataclass
class FakeNode:
    """What happened on one node, as the node saw it.

    Attributes:
        node_id: ``"node-0"`` is the replica's own.
        tasks: how many tasks it was sent: 0 says that nothing touched it.
        downloaded: what it downloaded (begun downloads that failed included): the mode of each.
        path: where the download went.
        runtime_env: what its task ran in.
        result: what the replica learnt, as in ``ctx.nodes``; ``None`` when it learnt nothing.
    """

    node_id: str
    tasks: int = 0
    downloaded: list[DownloadMode] = field(default_factory=list)
    path: str | None = None
    runtime_env: dict[str, Any] | None = None
    result: NodeResult | None = None


@dataclass
class FakeRun:
    """One start of one replica on a fake cluster; what ``FakeCluster.run`` returns.

    Attributes:
        output: what the engine was started with; ``None`` when the start failed.
        trace: the hook calls; ``print(run.trace)`` shows a table.
        error: what production would raise; ``None`` when the start succeeded.
        elapsed_s: how long it took, in virtual seconds, earlier starts included.
        nodes: node id to :class:`FakeNode`, all nodes of the cluster.
        engine: what was started, with ``kwargs`` and ``model_path``; ``None`` when it was not.
        ctx: the context that hooks in the replica were given.
        hooks: the hooks that were to run for the model, whether they did or not.
        known_hooks: gives these, and those that the config names for other models.
        reached: the last hook point that the run came to; ``None`` when it came to none.
        earlier_starts: the starts that died before this one (:func:`~serve_llm_hooks_testing.replica_dies`).
        notes: what it got away with: a hook that really sleeps, a thread left behind.
        unstruck: the faults that it did not come to.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(nodes=2, download_s=20, engine_start_s=30).run(FakeLLMConfig("llama-2-7b"))
        >>> run.elapsed_s, run.error
        (50.0, None)
    """

    model_id: str
    nodes: Mapping[str, FakeNode]
    trace: Trace
    output: InitializeNodeOutput | None = None
    error: Exception | None = None
    elapsed_s: float = 0.0
    engine: FakeEngine | None = None
    ctx: CallbackCtx | None = None
    hooks: tuple[Hook, ...] = ()
    known_hooks: Callable[[], Iterable[Hook]] = tuple
    reached: HookName | None = None
    earlier_starts: tuple[FakeRun, ...] = ()
    notes: tuple[str, ...] = ()
    unstruck: tuple[Fault, ...] = ()

    @property
    def not_idempotent(self) -> tuple[str, ...]:
        """Hooks that went well in a start that died, and not so in the next one.

        Example:
            >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, replica_dies
            >>> FakeCluster(faults=[replica_dies(at="on_after_init")]).run(FakeLLMConfig("m")).not_idempotent
            ()
        """
        went_well = {
            (event.point, event.hook) for start in self.earlier_starts for event in start.trace if event.outcome == "ok"
        }
        changed = (
            e.hook
            for e in self.trace
            if e.ran and e.outcome not in ("ok", "cancelled") and (e.point, e.hook) in went_well
        )
        return tuple(dict.fromkeys(changed))

    def __str__(self) -> str:
        end = f"failed: {type(self.error).__name__}: {self.error}" if self.error else "succeeded"
        head = f"start of model {self.model_id!r} on {len(self.nodes)} fake nodes: {end}, after {self.elapsed_s:g} s"
        lines = [head, str(self.trace), *(f"note: {note}" for note in self.notes)]
        for number, start in enumerate(self.earlier_starts, 1):
            lines += [f"start {number} of {len(self.earlier_starts) + 1}, which died:", str(start.trace)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        end = f"failed with {type(self.error).__name__}" if self.error else "succeeded"
        return f"<FakeRun of {self.model_id!r}: {end} after {self.elapsed_s:g} s, {len(self.trace)} hook calls>"


def furthest(*points: str | None) -> HookName | None:
    """The last of these points in the order in which they run."""
    return next((name for name in reversed(HOOK_NAMES) if name in points and name != "on_failure"), None)


recent: deque[FakeRun] = deque(maxlen=3)
"""The last runs of this process; the pytest plugin shows them beside a failing test."""
