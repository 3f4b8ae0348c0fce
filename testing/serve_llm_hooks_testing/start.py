"""One start of a replica: what it leaves behind, and the loop that starts it until one start lives."""

from __future__ import annotations

import asyncio
import copy
import os
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HookPickleError, HookRegistry, Trace, load_hooks, registry
from serve_llm_hooks._core.text import one_line
from serve_llm_hooks._node.packing import pack_hooks
from serve_llm_hooks._sources.entries import hooks_of_entries
from serve_llm_hooks._sources.select import hooks_of_config
from serve_llm_hooks.entry import initialization

from .clock import VirtualLoop
from .config import defaults_of
from .engine import FakeEngine
from .errors import HarnessError, HarnessWarning
from .faults import EngineFailsFault, ReplicaDiesFault
from .run import FakeNode, FakeRun, furthest
from .strikes import ProcessDied, death_hook
from .watch import Watch, watching

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from serve_llm_hooks import CallbackCtx, Hook, HookName
    from serve_llm_hooks._replica.initialize import Initialization

    from .cluster import FakeCluster

__all__ = ["Start", "run_alone"]


@dataclass
class Start:
    """What one start has come to so far."""

    nodes: dict[str, FakeNode]
    begun: Initialization | None = None
    reached: HookName | None = None
    hooks: HookRegistry = field(default_factory=HookRegistry)
    known_hooks: Callable[[], Iterable[Hook]] = tuple
    engine: FakeEngine | None = None
    engine_kwargs: dict[str, Any] = field(default_factory=dict)
    frontend_kwargs: dict[str, Any] = field(default_factory=dict)
    scheduled: bool = False  # its default placement group

    def reach(self, point: HookName) -> None:
        """Note that the start has come to a point."""
        self.reached = furthest(self.reached, point)

    def begin(self, begun: Initialization) -> None:
        """The production code is about to start."""
        self.begun = begun
        self.reach("on_before_init")

    def result(self, model_id: str, error: Exception | None, elapsed_s: float) -> FakeRun:
        """The start as a test sees it."""
        run = FakeRun(
            model_id=model_id,
            nodes=MappingProxyType(self.nodes),
            trace=Trace(clock=lambda: elapsed_s, epoch_s=0.0),
            error=error,
            elapsed_s=elapsed_s,
            engine=self.engine,
            hooks=tuple(self.hooks),
            known_hooks=self.known_hooks,
        )
        if self.begun is not None:
            run.trace, run.ctx = self.begun.trace, self.begun.ctx
            for node_id, result in run.ctx.nodes.items():
                self.nodes[node_id].result = result
            if self.engine is not None and error is None:
                run.output = self.begun.output
        run.reached = furthest(self.reached, *(event.point for event in run.trace)) if error else self.reached
        return run


def run_alone(cluster: FakeCluster, config: Any) -> FakeRun:
    """Run in an event loop of its own, in this thread."""
    _check_travels(config)
    watch = Watch(cluster.real_sleep_limit_s)
    # A copy holds the state, so that one cluster serves several runs, one after another or at once.
    cluster = copy.copy(cluster)
    cluster.struck = []
    with watching(watch):
        cluster.loop = watch.loop = VirtualLoop(real_sleep_limit_s=watch.limit_s, on_block=watch.blocked)
        try:
            run = cluster.loop.run_until_complete(_start_until_one_lives(cluster, config))
        except HarnessError as error:  # a deadlock: raised by the loop, and not by anything in it
            run = cluster.start.result(str(config.model_id), error, cluster.clock())
        finally:
            cluster.loop.finish()
    if run.error is not None:
        watch.failed()
    run.notes = tuple(watch.notes)
    run.unstruck = tuple(fault for fault in cluster.faults if fault not in cluster.struck)
    return run


async def _start_until_one_lives(cluster: FakeCluster, config: Any) -> FakeRun:
    """Start the replica, and start it again, as Serve does, when its process dies."""
    deaths: Counter[ReplicaDiesFault] = Counter()
    for fault in cluster.faults:
        if isinstance(fault, ReplicaDiesFault):
            deaths[fault] += fault.times  # the same fault given twice strikes twice as often
    dead: list[FakeRun] = []
    while True:
        cluster.start = Start({node_id: FakeNode(node_id) for node_id in cluster.node_names})
        dying = {fault.at: fault for fault, left in deaths.items() if left}
        try:
            run = await _start(cluster, config, tuple(dying.values()))
        except ProcessDied as death:
            fault = dying[death.point]
            deaths[fault] -= 1
            cluster.struck.append(fault)
            dead.append(cluster.start.result(str(config.model_id), None, cluster.clock()))
            await asyncio.sleep(fault.restart_s)
        else:
            run.earlier_starts = tuple(dead)
            return run


async def _start(cluster: FakeCluster, config: Any, dying: Sequence[ReplicaDiesFault]) -> FakeRun:
    """One start: the production code, with the fake cluster under it."""
    own = copy.copy(config)
    own.engine_kwargs = dict(config.engine_kwargs)  # what hooks decide is written into it, as in production
    start = cluster.start
    failure: Exception | None = None
    try:
        hooks = hooks_of_config(own)
        start.hooks = hooks.for_model(str(own.model_id))
        named = getattr(own, "hooks", None)
        start.known_hooks = (lambda: registry) if named is None else partial(load_hooks, *named)
        if dying:
            hooks = HookRegistry((*hooks, *(death_hook(fault.at) for fault in dying)))
        async with initialization(own, cluster=cluster, hooks=hooks, on_begin=start.begin) as begun:
            start.reach("on_before_engine_init")
            start.engine = begun.engine = await _start_engine(cluster, begun.ctx)
            start.reach("on_after_init")
    except Exception as error:
        failure = error
    return start.result(str(config.model_id), failure, cluster.clock())


async def _start_engine(cluster: FakeCluster, ctx: CallbackCtx) -> FakeEngine:
    """What Ray does where the production code leaves the engine's start to it."""
    start, after_s, failure = cluster.start, cluster.engine_start_s, None
    for fault in cluster.striking(EngineFailsFault):
        after_s = after_s if fault.after_s is None else fault.after_s
        failure = fault.error
    await asyncio.sleep(after_s)
    if failure is not None:
        raise failure
    return FakeEngine(
        kwargs=dict(start.engine_kwargs),
        frontend_kwargs=dict(start.frontend_kwargs),
        model_path=ctx.model_path or defaults_of(ctx.llm_config).source_id,
        placement_group=ctx.placement_group,
        runtime_env=ctx.runtime_env,
    )


def process_id(node_index: int) -> int:
    """A process id for a node's task, unlike the replica's, which is this process."""
    return os.getpid() + 1 + node_index


def in_event_loop() -> bool:
    """Whether this is called from within a running event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def tell(notes: Iterable[str], error: Exception | None = None) -> None:
    """Warn of what a test's author will want to know; from the test's own thread, and its own line.

    Raises:
        Exception: ``error``, in any case: a warning may have been made an error, and the hook's own comes first.
    """
    try:
        for note in notes:
            warnings.warn(note, HarnessWarning, stacklevel=4)
    finally:
        if error is not None:
            raise error


def _check_travels(config: Any) -> None:
    """See that Serve could ship the config to a replica."""
    import cloudpickle

    hooks = getattr(config, "hooks", None) or ()
    given = hooks_of_entries(ref for ref in hooks if not isinstance(ref, str | dict))
    others = config.callback_hooks() if hasattr(config, "callback_hooks") else ()
    pack_hooks([*given, *others])  # says which one cannot, and why
    try:
        cloudpickle.dumps(config)
    except Exception as error:
        raise HookPickleError(
            f"the config of model {getattr(config, 'model_id', '?')!r} cannot be sent to a replica: {one_line(error)}"
        ) from error
