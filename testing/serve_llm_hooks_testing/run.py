"""The result of a run on a fake cluster."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from serve_llm_hooks._core.messages import counted, text_of

from ._simulation.arguments import check_seconds
from ._virtual_time.loop import is_loop_running
from .errors import HarnessError, warn_and_raise

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


Ended: TypeAlias = tuple[tuple[Exception, ...], tuple[str, ...]]
"""The failures of a replica's ``on_shutdown`` hooks, and the notes of that moment."""


@dataclass
class FakeNode:
    """A node of a fake cluster after a run.

    Attributes:
        node_id: the node's id; ``"node-0"`` is the replica's own.
        tasks: the number of tasks it was sent; 0 means that nothing was done on it.
        downloaded: the mode of each download that it began, failed ones included.
        path: where the model was downloaded to.
        runtime_env: the runtime environment of its task.
        result: what the replica knows of it, as in ``ctx.nodes``; ``None`` if nothing.
    """

    node_id: str
    tasks: int = 0
    downloaded: list[DownloadMode] = field(default_factory=list)
    path: str | None = None
    runtime_env: dict[str, Any] | None = None
    result: NodeResult | None = None


@dataclass
class FakeRun:
    """The start of a replica on a fake cluster, as returned by ``FakeCluster.run``.

    Attributes:
        model_id: the model.
        nodes: node id to :class:`FakeNode`, for all nodes of the cluster.
        trace: the calls of hooks; ``print(run.trace)`` prints a table.
        output: what the engine was started with; ``None`` if the start failed.
        error: what production would raise; ``None`` if the start succeeded.
        elapsed_s: virtual seconds that it took, earlier starts included.
        engine: the engine, with ``kwargs`` and ``model_path``; ``None`` if it was not started.
        ctx: the context of the hooks in the replica.
        hooks: the hooks that are for the model, whether they ran or not.
        known_hooks: returns these, and those that the config names for other models.
        reached: the last hook point that the start reached; ``None`` if it reached none.
        earlier_starts: the starts that died before this one (:func:`~serve_llm_hooks_testing.replica_dies`).
        notes: problems that did not make it fail, such as a hook that really sleeps or a thread left behind.
        unstruck: the faults that did not happen; those of hooks at ``on_shutdown`` only once they could have.

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

    def __post_init__(self) -> None:
        """Nothing to stop yet."""
        self._stop: Callable[[float | None], Ended] | None = None

    def shut_down(self, *, budget_s: float | None = None) -> tuple[Exception, ...]:
        """Stop the replica as Serve does: run ``on_shutdown``, once, and only after a good start.

        The clock goes on where the start ended, in an event loop of its own. The calls are added to ``trace``.

        Args:
            budget_s: seconds that the hooks have together. Default: what the config's
                ``deployment_config`` leaves them; 16 s unless it says otherwise.

        Returns:
            The failures of the hooks, which production only logs.

        Raises:
            HarnessError: called inside a running event loop; use :meth:`ashut_down` there.

        Example:
            >>> from serve_llm_hooks import HookRegistry
            >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
            >>> hooks = HookRegistry()
            >>> @hooks.hook("on_shutdown")
            ... def deregister(ctx): ...
            >>> run = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]))
            >>> run.shut_down(budget_s=30)
            ()
            >>> run.trace.events[-1].name
            'deregister'
        """
        if is_loop_running():
            raise HarnessError(
                "run.shut_down() was called inside a running event loop, which it would block: "
                "write `await run.ashut_down()` there"
            )
        return self._ended(self.unstruck, self._shut_down(budget_s))

    async def ashut_down(self, *, budget_s: float | None = None) -> tuple[Exception, ...]:
        """Async form of :meth:`shut_down`. The replica stops in another thread.

        Example:
            >>> import asyncio
            >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
            >>> asyncio.run(FakeCluster().run(FakeLLMConfig("m")).ashut_down())
            ()
        """
        return self._ended(self.unstruck, await asyncio.to_thread(self._shut_down, budget_s))

    def _shut_down(self, budget_s: float | None) -> Ended:
        if budget_s is not None:
            check_seconds("budget_s", budget_s)
        return ((), ()) if self._stop is None else self._stop(budget_s)

    def _ended(self, told: tuple[Fault, ...], ended: Ended) -> tuple[Exception, ...]:
        """Emit the warnings in the test's own thread; of the faults, those that were not told of before."""
        failures, notes = ended
        self.notes += notes
        warn_and_raise((*notes, *never_struck(self.unstruck[len(told) :])), None)
        return failures

    @property
    def not_idempotent(self) -> tuple[str, ...]:
        """Hooks that succeeded in a start that died and failed when the replica was started again.

        Example:
            >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, replica_dies
            >>> FakeCluster(faults=[replica_dies(at="on_after_init")]).run(FakeLLMConfig("m")).not_idempotent
            ()
        """
        succeeded = {
            (event.point, event.label)
            for start in self.earlier_starts
            for event in start.trace
            if event.outcome == "ok"
        }
        failed = (event for event in self.trace if event.ran and event.outcome not in ("ok", "cancelled"))
        return tuple(dict.fromkeys(event.hook for event in failed if (event.point, event.label) in succeeded))

    def __str__(self) -> str:
        """Return how the start ended, and its trace as a table."""
        end = "succeeded" if self.error is None else f"failed: {type(self.error).__name__}: {text_of(self.error)}"
        nodes = counted(len(self.nodes), "fake node")
        head = f"start of model {self.model_id!r} on {nodes}: {end}, after {self.elapsed_s:g} s"
        lines = [head, str(self.trace), *(f"note: {note}" for note in self.notes)]
        for number, start in enumerate(self.earlier_starts, 1):
            lines += [f"start {number} of {len(self.earlier_starts) + 1}, which died:", str(start.trace)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Return how the start ended, on one line."""
        end = "succeeded" if self.error is None else f"failed with {type(self.error).__name__}"
        return (
            f"<FakeRun of {self.model_id!r}: {end} after {self.elapsed_s:g} s, {counted(len(self.trace), 'hook call')}>"
        )


def never_struck(faults: Iterable[Fault]) -> tuple[str, ...]:
    """Return the texts of the warnings about faults that did not happen."""
    return tuple(f"{fault} never struck: the run did not come to it" for fault in faults)


recent: deque[FakeRun] = deque(maxlen=3)
"""The last runs of this process. The pytest plugin adds them to the report of a failing test."""
