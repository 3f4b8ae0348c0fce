"""Start a replica on a fake cluster, and start it again when its process dies."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from contextlib import ExitStack
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HookPickleError, HookRegistry
from serve_llm_hooks._core.messages import one_line, readable
from serve_llm_hooks._node.packing import check_parameters_travel, pack_hooks
from serve_llm_hooks._process.payload import check_sendable
from serve_llm_hooks._replica.shutdown import budget_s
from serve_llm_hooks._sources.entries import hooks_of_entries
from serve_llm_hooks._sources.select import hooks_of_config
from serve_llm_hooks.entry import initialization

from .._apart.state import in_process
from .._monitor.monitor import MOST_KEPT
from .._monitor.session import monitored_loop
from .._virtual_time.loop import VirtualLoop
from ..engine import EngineForHooks
from ..errors import DeadlockError, HarnessError
from .adapters import loader_of
from .copies import copied
from .fault_hooks import death_hook, failing_paths, faults_at_shutdown, have_failed, with_failing
from .fault_kinds import ReplicaDiesFault
from .process import SimulatedProcess
from .simulated_cluster import SimulatedCluster
from .start import ReplicaStart, set_hooks
from .timing import Cancelling

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from serve_llm_hooks import HookName
    from serve_llm_hooks._replica.initialize import Initialization

    from .._apart.thread_data import ThreadData
    from .._monitor.monitor import MakeLoop, Monitor
    from ..run import FakeRun
    from .settings import ClusterSettings


def run_replica(
    settings: ClusterSettings,
    config: Any,
    *,
    make_loop: MakeLoop = VirtualLoop,
    make_cluster: Callable[[ClusterSettings, Callable[[], float]], SimulatedCluster] | None = None,
) -> FakeRun:
    """Start a replica in an event loop of its own, in the calling thread. Return the run, also if it has failed.

    Args:
        settings: the cluster's settings.
        config: the replica's config.
        make_loop: makes the event loop.
        make_cluster: makes the cluster, from the settings and a clock.
    """
    try:
        check_config_pickles(config)
    except HookPickleError as error:
        return ReplicaStart(str(config.model_id), settings.node_names).end(error, 0.0)
    at_end = ExitStack()
    with at_end, monitored_loop(settings.real_sleep_limit_s, settings.time_limit_s, make_loop) as monitor:
        cluster = (make_cluster or SimulatedCluster)(settings, monitor.loop.time)
        at_end.callback(cluster.processes.release)
        try:
            run = monitor.loop.run_until_complete(_start_until_alive(cluster, config, monitor.thread_data))
        except DeadlockError as error:
            run = cluster.start.end(error, cluster.clock())
        initialization = cluster.start.initialization
        if run.error is None and initialization is not None and initialization.start.spans:
            monitor.keep()  # a task of a span goes on in the loop in which it was begun
    monitor.note_skipped_waits()
    run.notes = tuple(monitor.notes)
    if run.error is None and initialization is not None and initialization.has_hooks_at_shutdown:
        run._stop = partial(_shut_down, cluster, initialization, monitor if monitor.is_kept else None)
    later = faults_at_shutdown(cluster.start.failing, run) if run._stop is not None else []
    run.unstruck = tuple(fault for fault in settings.faults if fault not in (*cluster.triggered, *later))
    return run


def _shut_down(
    cluster: SimulatedCluster, initialization: Initialization, kept: Monitor | None, hooks_have_s: float | None
) -> tuple[tuple[Exception, ...], tuple[str, ...]]:
    """Stop the replica of a good start; return the failures of its hooks, and the monitor's notes.

    Args:
        cluster: where it has started.
        initialization: its start.
        kept: the event loop of the start, where something that it has set up is still held.
        hooks_have_s: seconds that its hooks have. ``None``: what its config leaves them.
    """
    if hooks_have_s is None:
        hooks_have_s = seconds_to_stop(initialization)
    if kept is not None and kept.loop.is_closed():
        if initialization.is_up:
            raise HarnessError(
                f"run.shut_down(): more than {MOST_KEPT} replicas with a hook that lasts until on_shutdown have been "
                "started since, and no more are kept: stop each before the next ones"
            )
        kept = None  # it was shut down before
    settings, process = cluster.settings, cluster.processes.replica
    assert process is not None
    limits = settings.real_sleep_limit_s, settings.time_limit_s
    with in_process(process), monitored_loop(*limits, kept=kept) as monitor:
        if kept is None:
            cluster.go_on(monitor.loop.time)
        failures = monitor.loop.run_until_complete(initialization.shut_down(hooks_have_s))
    monitor.note_skipped_waits()
    run, failing = cluster.start.run, cluster.start.failing
    happened = (*cluster.triggered, *have_failed(failing, run), *run.unstruck)
    run.unstruck += tuple(fault for fault in faults_at_shutdown(failing, run) if fault not in happened)
    return failures, tuple(monitor.notes)


def seconds_to_stop(initialization: Initialization) -> float:
    """Return the seconds that a replica's config leaves its hooks when it stops."""
    return budget_s(getattr(initialization.start.llm_config, "deployment_config", None) or {})


async def _start_until_alive(cluster: SimulatedCluster, config: Any, thread_data: ThreadData) -> FakeRun:
    """Start the replica; start it again, as Serve does, when its process dies."""
    deaths: Counter[ReplicaDiesFault] = Counter()
    for fault in cluster.settings.faults:
        if isinstance(fault, ReplicaDiesFault):
            deaths[fault] += fault.times  # a fault that is given twice happens twice as often
    died: list[FakeRun] = []
    while True:
        cluster.start = ReplicaStart(str(config.model_id), cluster.settings.node_names)
        deadly: dict[HookName, ReplicaDiesFault] = {fault.at: fault for fault, left in deaths.items() if left}
        state = cluster.processes.for_replica(config)
        process = SimulatedProcess(start_once(cluster, config, deadly), copy_context(), state)
        if cluster.settings.timing is not None:
            cluster.settings.timing.call_at_death(process.die)
        run = await process.wait()
        if run is not None:
            run.earlier_starts = tuple(died)
            return run
        died.append(cluster.start.die(cluster.clock(), process.died_at))
        process.kill()
        thread_data.restore()
        if process.died_at is not None:  # else it was its timing
            fault = deadly[process.died_at]
            deaths[fault] -= 1
            cluster.triggered.append(fault)
            await asyncio.sleep(fault.restart_s)


async def start_once(cluster: SimulatedCluster, config: Any, deadly: Iterable[HookName]) -> FakeRun:
    """Run the production code once; the process dies at one of the deadly points, if any."""
    own = copy.copy(config)
    # A replica's are its own, and production writes hooks' arguments into the first.
    own.engine_kwargs = {name: copied(value) for name, value in config.engine_kwargs.items()}
    own.model_loading_config = copied(config.model_loading_config)
    start = cluster.start
    start.triggered = cluster.triggered
    failure: Exception | None = None
    timing = cluster.settings.timing
    if timing is not None:
        timing.apply(cluster.local_node_id)
    cancelling = Cancelling(timing)
    try:
        hooks = HookRegistry(hook for hook in hooks_of_config(own) if hook.ref not in cluster.settings.left_out)
        set_hooks(start.run, own, hooks)
        start.failing = failing_paths(cluster.settings.faults, start.run)
        hooks = with_failing(hooks, start.failing, cluster.local_node_id)
        if deadly:
            hooks = HookRegistry((*hooks, *map(death_hook, deadly)))
        async with initialization(own, cluster=cluster, hooks=hooks, on_begin=start.begin) as run:
            start.reach("on_before_engine_init")
            start.run.engine = await cluster.start_engine()
            run.engine = EngineForHooks(start.run.engine)
            run.load_adapter = loader_of(start.run.engine, own)
            start.reach("on_after_init")
    except Exception as error:
        failure = error
    except asyncio.CancelledError:
        failure = cancelling.error()
        if failure is None:
            raise
    finally:
        cancelling.stop()
    return start.end(failure, cluster.clock())


def check_config_pickles(config: Any) -> None:
    """Check that Serve could send the config to a replica.

    Raises:
        HookPickleError: it could not; the message says which hook or field is the reason.
    """
    import cloudpickle

    hooks = getattr(config, "hooks", None) or ()
    check_parameters_travel(hooks)
    given = hooks_of_entries(ref for ref in hooks if not isinstance(ref, str | dict))
    others = config.callback_hooks() if hasattr(config, "callback_hooks") else ()
    pack_hooks([*given, *others])
    check_sendable([*given, *others], str(config.model_id))
    try:
        cloudpickle.dumps(config)
    except Exception as error:
        raise HookPickleError(
            f"the config of model {getattr(config, 'model_id', '?')!r} cannot be sent to a replica: {one_line(error)}"
        ) from readable(error)
