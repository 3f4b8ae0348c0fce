"""The state of one start of a replica."""

from __future__ import annotations

import copy
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import Trace, load_hooks, registry
from serve_llm_hooks._core.context import set_read_only
from serve_llm_hooks._core.points import HOOK_POINTS, hook_point

from ..errors import DeadlockError
from ..run import FakeNode, FakeRun
from .fault_hooks import have_failed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from serve_llm_hooks import HookName, HookRegistry
    from serve_llm_hooks._replica.initialize import Initialization

    from ..engine import FakeEngine
    from .fault_kinds import Fault, HookFailsFault


class ReplicaStart:
    """One start of a replica: the run that a test will see, and what is known only during the start.

    Attributes:
        run: the run, filled in as the start goes on.
        engine: the engine as it is configured, started or not.
        group_scheduled: whether the default placement group has been scheduled.
        initialization: what the production code has made of it; ``None`` before it has begun.
        given_kwargs: the config's engine arguments when the start began, which is when Ray reads them.
        llm_config: the replica's copy of the config, once the engine is configured.
        failing: the paths of the hooks that faults make fail, with these faults.
        answering: the faults that the engine answers with.
        triggered: the cluster's faults that have happened; the start adds those that show at its end.
    """

    def __init__(self, model_id: str, node_ids: Iterable[str]) -> None:
        nodes = MappingProxyType({node_id: FakeNode(node_id) for node_id in node_ids})
        self.run = FakeRun(model_id, nodes, Trace(clock=float, epoch_s=0.0))
        self.engine: FakeEngine | None = None
        self.group_scheduled: bool = False
        self.given_kwargs: dict[str, Any] = {}
        self.llm_config: Any = None
        self.failing: dict[str, list[HookFailsFault]] = {}
        self.answering: tuple[Fault, ...] = ()
        self.triggered: list[Fault] = []
        self.initialization: Initialization | None = None

    def reach(self, *points: str) -> None:
        """Record that the start has reached hook points."""
        reached = (*points, self.run.reached)
        steps = (name for name, row in reversed(HOOK_POINTS.items()) if row.during == "start")
        self.run.reached = next((hook_point(name).name for name in steps if name in reached), None)

    def begin(self, initialization: Initialization) -> None:
        """Record that the production code is about to start."""
        self.initialization = initialization
        self.run.trace, self.run.ctx = initialization.trace, initialization.ctx
        self.reach("on_before_init")

    def end(self, error: Exception | None, elapsed_s: float) -> FakeRun:
        """Return the run of a start that has succeeded or failed."""
        run = self.run
        run.error, run.elapsed_s = error, elapsed_s
        self.triggered += have_failed(self.failing, run)
        if run.engine is not None and run.engine.requests:
            self.triggered += self.answering
        if self.initialization is not None:
            if type(error) is DeadlockError and error.__cause__ is None:
                error.__cause__ = self.initialization.ctx.error  # the failure that on_failure, which hangs, is told
            for node_id, result in self.initialization.ctx.nodes.items():
                run.nodes[node_id].result = result
            if run.engine is not None and error is None:
                run.output = self.initialization.output
        if error is not None:
            self.reach(*(event.point for event in run.trace))
        return run

    def die(self, elapsed_s: float, at: HookName | None) -> FakeRun:
        """Return the run of a start whose process has died at a point. Its clean-up must not change the trace."""
        run = self.end(None, elapsed_s)
        self.reach(*(event.point for event in run.trace), *([] if at is None else [at]))
        run.trace = copy.copy(run.trace)
        if run.ctx is not None:
            run.ctx = copy.copy(run.ctx)
            set_read_only(run.ctx, trace=run.trace)
        if self.initialization is not None:
            self.initialization.start.progress.end()  # its task stays as it is for as long as the loop is kept
        return run


def set_hooks(run: FakeRun, config: Any, hooks: HookRegistry) -> None:
    """Set the hooks that a run is about, from its config and the config's hooks."""
    named = getattr(config, "hooks", None)
    run.hooks = tuple(hooks.for_model(str(config.model_id)))
    run.known_hooks = (lambda: registry) if named is None else partial(load_hooks, *named)
