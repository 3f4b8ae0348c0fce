"""Lies told to the fake cluster, each of which the contract suite must catch: ``make mutants``.

    python -m tests.contract.mutants          # run all, say how many catch each, write the table into docs/testing.md
    python -m tests.contract.mutants --check  # the same, but only say when the page's table is stale

What a lie is caught by is what the real wing told (``recorded.json``), so this takes seconds and needs no Ray. Exits
with 1 when a lie survives the scenario that is there to catch it, or the table is stale. Every lie runs in a process of
its own, and is patched in for good.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import serve_llm_hooks_testing._apart.locks as locks_module
import serve_llm_hooks_testing._monitor.session as session_module
import serve_llm_hooks_testing._simulation.default_group as group_module
import serve_llm_hooks_testing._simulation.lost as lost_module
import serve_llm_hooks_testing._simulation.process as process_module
import serve_llm_hooks_testing._simulation.process_states as states_module
import serve_llm_hooks_testing._simulation.replica as simulation_module
import serve_llm_hooks_testing._simulation.simulated_cluster as cluster_module
import serve_llm_hooks_testing._virtual_time.belongings as belongings_module
import serve_llm_hooks_testing._virtual_time.patience as patience_module
import serve_llm_hooks_testing._virtual_time.system_clocks as system_clocks_module
import serve_llm_hooks_testing.cluster as fake_cluster_module
import serve_llm_hooks_testing.config as config_module
import serve_llm_hooks_testing.engine as engine_module
from scripts.docs_tables import renew
from serve_llm_hooks import DownloadMode
from serve_llm_hooks._node import work as node_module
from serve_llm_hooks._node.task import PackedHook
from serve_llm_hooks._replica import node_tasks as tasks_module, nodes as replica_module
from serve_llm_hooks._replica.ask import PlainRequest
from serve_llm_hooks._replica.initialize import Initialization
from serve_llm_hooks_testing import FakeCluster, FakePlacementGroup, VirtualLoop
from serve_llm_hooks_testing._apart.state import ProcessState
from serve_llm_hooks_testing._simulation.simulated_cluster import SimulatedCluster
from serve_llm_hooks_testing._simulation.start import ReplicaStart
from serve_llm_hooks_testing._virtual_time.locks import LockWatch
from serve_llm_hooks_testing._virtual_time.sleeper import Sleeper
from serve_llm_hooks_testing._virtual_time.timer import Timer

from .recorded import read_recorded
from .scenarios import SCENARIOS
from .told import differences
from .wings import run_fake

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "testing.md"

# Of a process that runs one lie; what has not answered by then hangs, which is as good as telling.
LIMIT_S = 30

MUTANTS: dict[str, Callable[[], None]] = {}
CAUGHT_BY: dict[str, str] = {}


def lie(caught_by: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Make a function that patches the fake cluster a lie; its docstring is what the lie says.

    Args:
        caught_by: a scenario that must catch it, whichever others do.
    """
    assert caught_by in SCENARIOS, caught_by

    def decorate(tell: Callable[[], None]) -> Callable[[], None]:
        MUTANTS[tell.__name__] = tell
        CAUGHT_BY[tell.__name__] = caught_by
        return tell

    return decorate


def patch(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    """Replace an attribute by what ``make`` makes of it."""
    put(owner, name, make(getattr(owner, name)))


def put(owner: Any, name: str, value: Any) -> None:
    """Replace an attribute, which is there: a lie that nobody hears would be caught by nothing."""
    assert hasattr(owner, name), f"{owner} has no {name!r}"
    setattr(owner, name, value)


# -- processes --------------------------------------------------------------------------------------------------------


@lie("custom_data_crosses_as_a_copy_and_comes_back")
def one_ctx() -> None:
    """all nodes share one `ctx`"""

    def make(init: Any) -> Any:
        def shared(self: Any, task: Any, download: Any, *args: Any) -> None:
            init(self, task, download, *args)
            self.ctx = download.__self__.start.__dict__.setdefault("shared_ctx", self.ctx)

        return shared

    patch(node_module._Work, "__init__", make)


@lie("custom_data_crosses_as_a_copy_and_comes_back")
def no_pickling_to_nodes() -> None:
    """`custom_data` goes to nodes as it is, unpickled"""
    _by_reference(replica_module, node_module)


@lie("what_cannot_leave_a_node_is_told_there")
def no_pickling_from_nodes() -> None:
    """`custom_data` comes back from nodes as it is, unpickled"""
    _by_reference(node_module, replica_module)


@lie("a_hook_that_cannot_travel_is_told_before_anything_runs")
def no_pickling_of_hooks() -> None:
    """hooks and configs are not pickled at all"""
    held: dict[bytes, Any] = {}

    def pack(hooks: Any) -> Any:
        packed = []
        for hook in hooks:
            held[data := f"held {len(held)}".encode()] = hook
            packed.append(PackedHook(hook.ref, hook.point, "", data))
        return tuple(packed)

    def loads(data: bytes) -> Any:
        return held[data] if data in held else pickle.loads(data)

    put(tasks_module, "pack_hooks", pack)
    put(simulation_module, "check_config_pickles", lambda config: None)
    put(node_module, "pickle", SimpleNamespace(loads=loads, dumps=pickle.dumps))


def _by_reference(packs: Any, unpacks: Any) -> None:
    """Let ``custom_data`` that one module packs arrive in the other as the objects themselves."""
    held: dict[bytes, Any] = {}

    def pack(data: dict[str, Any], *, where: str) -> Any:
        packed = []
        for key, value in data.items():
            held[token := f"held {len(held)}".encode()] = value
            packed.append((key, token))
        return tuple(packed)

    def make(unpack: Any) -> Any:
        def from_held(packed: Any, *, where: str) -> dict[str, Any]:
            return {
                key: held[data] if data in held else unpack([(key, data)], where=where)[key] for key, data in packed
            }

        return from_held

    put(packs, "pack_custom_data", pack)
    patch(unpacks, "unpack_custom_data", make)


@lie("every_point_runs_where_and_when_the_table_says")
def one_process() -> None:
    """the replica and the nodes are one process"""
    put(cluster_module, "node_process_id", lambda node_index, *, second=False: os.getpid())


@lie("processes_share_no_globals")
def nodes_share_globals() -> None:
    """nodes' processes share the globals of their modules"""
    put(fake_cluster_module, "_run", simulation_module.run_replica)


@lie("a_replica_that_dies_begins_again_with_nothing")
def restarts_keep_objects() -> None:
    """a replica that is started again finds the objects of its last start"""
    held: dict[int, Any] = {}

    def make(find: Any) -> Any:
        def find_once(config: Any) -> Any:  # a restart has a copy of the config, with the same list in it
            return held.setdefault(id(config.hooks), (config, find(config)))[1]

        return find_once

    patch(simulation_module, "hooks_of_config", make)


@lie("a_replica_that_dies_begins_again_with_nothing")
def restarts_keep_custom_data() -> None:
    """a replica that is started again finds the `custom_data` of its last start"""

    def make(begin: Any) -> Any:
        def begin_with(self: Any, initialization: Any) -> None:
            begin(self, initialization)
            initialization.ctx.custom_data = kept.setdefault(id(self.triggered), initialization.ctx.custom_data)

        return begin_with

    kept: dict[int, Any] = {}
    patch(ReplicaStart, "begin", make)


@lie("tasks_that_hooks_leave_on_a_node_end_with_its_task")
def tasks_outlive_their_node() -> None:
    """tasks and threads that hooks leave on a node outlive it"""
    put(cluster_module, "NodeProcess", process_module.SimulatedProcess)


@lie("a_hook_that_is_cancelled_has_three_seconds_for_its_own_clean_up")
def killed_nodes_clean_up() -> None:
    """what is killed cleans up all the same"""
    put(process_module.SimulatedProcess, "kill", lambda self: self._task.cancel())


@lie("a_lock_of_a_module_is_good_for_the_next_start")
def locks_of_earlier_starts() -> None:
    """a module's `asyncio.Lock` is bound to the loop that first waited for it"""
    put(session_module, "install_locks", lambda undo: None)


# -- nodes ------------------------------------------------------------------------------------------------------------


def on_run(make: Callable[[Any], Any]) -> None:
    """Lie about what is run on a node."""
    patch(SimulatedCluster, "run_on_node", make)


@lie("every_point_runs_where_and_when_the_table_says")
def hooks_on_one_node() -> None:
    """per-node hooks run once, on the first node"""

    def make(run: Any) -> Any:
        async def once(self: Any, task: Any, *, runtime_env: Any) -> Any:
            hooks = task.hooks if task.node_id == "node-0" else ()
            return await run(self, task._replace(hooks=hooks), runtime_env=runtime_env)

        return once

    on_run(make)


@lie("when_a_node_fails_the_others_get_a_grace_and_no_more")
def one_after_another() -> None:
    """nodes work one after another"""

    def make(run: Any) -> Any:
        async def in_turn(self: Any, task: Any, *, runtime_env: Any) -> Any:
            async with self.start.__dict__.setdefault("turn", asyncio.Lock()):
                return await run(self, task, runtime_env=runtime_env)

        return in_turn

    on_run(make)


@lie("a_veto_on_every_node_downloads_nothing_and_runs_the_hooks")
def veto_ignored() -> None:
    """a node's veto is ignored"""

    def make(download: Any) -> Any:
        async def anyway(self: Any, veto: Any) -> None:
            await download(self, None)

        return anyway

    patch(node_module._Work, "_download", make)


@lie("every_point_runs_where_and_when_the_table_says")
def events_reversed() -> None:
    """a node's events come back in the wrong order"""

    def make(run: Any) -> Any:
        async def backwards(self: Any, task: Any, *, runtime_env: Any) -> Any:
            report = await run(self, task, runtime_env=runtime_env)
            return report._replace(events=report.events[::-1])

        return backwards

    on_run(make)


@lie("a_hook_that_fails_on_one_node")
def events_lost() -> None:
    """a failing node's events do not come back"""

    def make(run: Any) -> Any:
        async def forgetful(self: Any, task: Any, *, runtime_env: Any) -> Any:
            report = await run(self, task, runtime_env=runtime_env)
            return report if report.failure is None else report._replace(events=())

        return forgetful

    on_run(make)


@lie("the_local_mode_overrides_the_workers")
def wrong_local_node() -> None:
    """the replica runs on the last node"""
    put(SimulatedCluster, "local_node_id", property(lambda self: self.settings.node_names[-1]))


@lie("nodes_that_a_replaced_group_adds_are_initialized_once")
def added_nodes_forgotten() -> None:
    """nodes that a replaced group adds are not initialized"""

    def make(node_ids: Any) -> Any:
        async def first_only(self: Any, group: Any, own_bundles: Any = None) -> Any:
            found = await node_ids(self, group, own_bundles)
            known = self.start.__dict__.setdefault("known", found)
            return [node_id for node_id in found if node_id in known] or found

        return first_only

    patch(SimulatedCluster, "node_ids", make)


@lie("a_group_of_before_init_is_used_instead_of_the_default")
def always_the_default_group() -> None:
    """a hook's group has the default group's nodes"""

    def make(node_ids: Any) -> Any:
        async def default(self: Any, group: Any, own_bundles: Any = None) -> Any:
            return await node_ids(self, self.settings.default_group, own_bundles)

        return default

    patch(SimulatedCluster, "node_ids", make)


@lie("a_group_of_before_init_is_used_instead_of_the_default")
def nodes_sorted() -> None:
    """a group's nodes come in the order of their names"""

    def make(node_ids: Any) -> Any:
        async def sorted_ids(self: Any, group: Any, own_bundles: Any = None) -> Any:
            return sorted(await node_ids(self, group, own_bundles))

        return sorted_ids

    patch(SimulatedCluster, "node_ids", make)


# -- time -------------------------------------------------------------------------------------------------------------


@lie("every_point_runs_where_and_when_the_table_says")
def clock_stands_still() -> None:
    """the clock does not advance"""
    put(VirtualLoop, "_set_time", lambda self, when_s: None)


@lie("a_blocking_hook_is_left_behind_at_its_timeout")
def blocking_hooks_are_waited_for() -> None:
    """the clock waits for blocking hooks, however long"""
    put(Sleeper, "is_before", lambda self, when_s, order: True)


@lie("timers_fire_in_the_order_in_which_they_were_made")
def timers_last_in_first_out() -> None:
    """timers that are due together fire in any order"""
    put(Timer, "__lt__", lambda self, other: (self.when(), -self.order) < (other.when(), -other.order))


@lie("idle_threads_hold_nothing_up")
def idle_threads_hold_the_clock() -> None:
    """an idle thread holds the clock"""

    def all_that_live(self: Any, asleep: Any) -> Any:
        for each in self.threads:
            sleeper = asleep.get(each.what.ident)
            if each.what.is_alive() and (sleeper is None or sleeper.is_awake or sleeper.until_s is None):
                yield each

    put(belongings_module.Belongings, "others_at_work", all_that_live)
    put(patience_module, "MAX_LIMITS", 1e9)
    put(LockWatch, "sees_wait", lambda self, thread_id, native_id: False)


@lie("a_subprocess_is_waited_for_within_a_timeout")
def others_at_work_are_not_waited_for() -> None:
    """the clock goes on while a hook's subprocesses and threads are at work"""
    put(belongings_module.Belongings, "others_at_work", lambda self, asleep: iter(()))


@lie("a_hook_that_backs_off_takes_as_long_on_every_clock")
def clocks_of_the_system() -> None:
    """`time.monotonic` and its kin go on as if nobody slept"""
    put(system_clocks_module, "note_reading", lambda clock, frame: None)
    put(system_clocks_module, "_clock_of_caller", _only_to_sleep)


def _only_to_sleep() -> Any:
    asks = sys._getframe(1).f_code.co_name
    return system_clocks_module.current_clock() if asks == "sleep" else None


@lie("a_starting_engine_blocks_the_loop_and_no_thread")
def engine_does_not_block() -> None:
    """the replica's loop goes on while its engine starts"""

    def make(start: Any) -> Any:
        async def waiting(self: Any) -> Any:
            await asyncio.sleep(self.settings.engine_start_s)
            return await start(self)

        return waiting

    patch(SimulatedCluster, "start_engine", make)


def _with_settings(**settings: float) -> None:
    def make(init: Any) -> Any:
        def other(self: Any, *args: Any, **kwargs: Any) -> None:
            init(self, *args, **kwargs)
            self.__dict__.update(settings)

        return other

    patch(FakeCluster, "__init__", make)


@lie("a_node_that_takes_too_long")
def no_node_timeout() -> None:
    """a node may take as long as it likes"""
    _with_settings(node_timeout_s=1e5)


@lie("a_module_that_one_node_does_not_have")
def no_grace() -> None:
    """when a node fails, the others get no grace"""
    _with_settings(node_grace_s=0.0)


@lie("nodes_that_are_cancelled_clean_up_within_three_seconds")
def no_end_by_force() -> None:
    """a node that is cancelled may clean up for as long as it likes"""
    put(process_module, "POLITE_CANCEL_S", 1e9)


@lie("what_does_not_end_in_time_leaves_none_to_others")
def no_end_of_the_end() -> None:
    """a replica may stop for as long as it likes"""
    patch(Initialization, "shut_down", lambda shut_down: lambda self, budget_s: shut_down(self, 1e9))


@lie("a_node_finds_its_own_data_and_what_the_replica_has_now")
def no_data_of_its_own() -> None:
    """once the engine is up, a node has forgotten what its hooks had written"""
    put(replica_module.Nodes, "_custom_data_for", lambda self, known: self._start.ctx.custom_data)


@lie("a_node_refuses_what_its_environment_does_not_allow")
def environment_ignored() -> None:
    """a node runs hooks that its environment does not allow"""
    patch(cluster_module, "run_task", lambda run: lambda *args, **kwargs: run(*args, **{**kwargs, "environ": {}}))


@lie("a_node_has_the_variables_of_the_runtime_env_and_its_own")
def one_environment() -> None:
    """the replica and its nodes change the same `os.environ`"""
    put(states_module, "copy_of_environment", lambda: None)


@lie("nodes_do_not_wait_for_each_other_at_a_modules_lock")
def one_lock() -> None:
    """all nodes share a module's `asyncio.Lock`"""
    put(locks_module, "current_process", lambda: None)


@lie("async_hooks_on_a_node_are_in_its_main_thread")
def no_main_thread_on_nodes() -> None:
    """a node's event loop is not in its main thread"""
    put(states_module, "ProcessState", lambda **settings: ProcessState(**{**settings, "loop_in_main_thread": False}))


@lie("a_nodes_threads_end_with_its_process")
def threads_outlive_their_node() -> None:
    """a node's threads go on when its task has ended"""
    put(ProcessState, "end", lambda self: False)


# -- faults -----------------------------------------------------------------------------------------------------------


@lie("a_download_fails_everywhere")
def download_failure_swallowed() -> None:
    """a download that fails arrives"""

    def make(download: Any) -> Any:
        async def swallowing(self: Any, task: Any, mode: Any) -> Any:
            try:
                return await download(self, task, mode)
            except RuntimeError:
                return f"/models/{task.source_id}"

        return swallowing

    patch(SimulatedCluster, "_download", make)


@lie("a_download_that_fails_quietly_is_an_error")
def quiet_failure_arrives() -> None:
    """a download that fails quietly arrives"""

    def make(download: Any) -> Any:
        async def arriving(self: Any, task: Any, mode: Any) -> Any:
            path = await download(self, task, mode)
            return f"/models/{task.source_id}" if path == task.source_id else path

        return arriving

    patch(SimulatedCluster, "_download", make)


@lie("a_nodes_raylet_is_killed")
def lost_node_is_some_error() -> None:
    """a lost node is a `RuntimeError`"""
    patch(lost_module, "NodeLostError", lambda _: lambda message, *, node_id: RuntimeError(message))


@lie("a_worker_process_dies_before_its_download")
def lost_nodes_come_back() -> None:
    """a lost node answers"""
    put(cluster_module, "packed_death_hook", lambda point: PackedHook("-", "on_before_init", "", b""))


@lie("a_group_that_cannot_be_scheduled")
def every_group_fits() -> None:
    """a group that cannot be scheduled is scheduled"""
    patch(
        SimulatedCluster,
        "trigger",
        lambda trigger: (
            lambda self, kind, node_id=None: (
                [] if kind.__name__ == "UnschedulableFault" else trigger(self, kind, node_id)
            )
        ),
    )


@lie("a_module_that_one_node_does_not_have")
def modules_are_everywhere() -> None:
    """a module that is missing on a node is there"""
    put(cluster_module, "without_module", lambda hook, module: hook)


@lie("an_engine_that_does_not_start")
def engines_always_start() -> None:
    """an engine that does not start starts"""
    patch(
        SimulatedCluster,
        "trigger",
        lambda trigger: (
            lambda self, kind, node_id=None: [] if kind.__name__ == "EngineFailsFault" else trigger(self, kind, node_id)
        ),
    )


# -- the config and the engine ----------------------------------------------------------------------------------------


@lie("hooks_arguments_are_merged_over_the_configs")
def arguments_not_merged() -> None:
    """hooks' engine arguments do not reach the engine"""

    def make(split: Any) -> Any:
        def forgetful(extra: Any, **about: Any) -> Any:
            split(extra, **about)
            return {}, {}

        return forgetful

    patch(cluster_module, "split_engine_kwargs", make)


@lie("an_unknown_argument_is_refused_with_a_suggestion")
def arguments_not_checked() -> None:
    """any engine argument will do"""
    patch(
        cluster_module,
        "split_engine_kwargs",
        lambda split: lambda extra, **about: split(extra, **{**about, "engine_names": None}),
    )


@lie("an_unknown_argument_of_the_config_is_refused")
def config_not_checked() -> None:
    """any engine argument of the config will do"""
    put(cluster_module, "check_config_kwargs", lambda kwargs, more: None)


def _other_defaults(**fields: Any) -> None:
    patch(cluster_module, "defaults_of", lambda defaults: lambda config: replace(defaults(config), **fields))


@lie("a_config_that_warns_is_the_default_of_its_hooks")
def config_never_warns() -> None:
    """a config that says `warn` raises"""
    _other_defaults(on_error="raise")


@lie("a_path_of_one_nodes_own_is_an_error_for_an_engine_on_several")
def one_worker() -> None:
    """every engine has one worker"""
    _other_defaults(engine_workers=1)


@lie("a_streaming_engine_downloads_nothing")
def streaming_downloads() -> None:
    """an engine that streams its weights downloads them"""
    _other_defaults(download_model=DownloadMode.MODEL_AND_TOKENIZER)


@lie("skipped_defaults_run_the_custom_point_and_the_engine_points")
def replica_has_a_group() -> None:
    """the replica runs in a placement group from the start"""
    _other_defaults(placement_group=FakePlacementGroup(["node-0", "node-1", "node-2"]))


@lie("a_config_that_is_changed_behind_the_engine")
def live_arguments() -> None:
    """the config's own dict reaches the engine"""

    def make(configure: Any) -> Any:
        def live(self: Any, llm_config: Any, ctx: Any, *, path_by_hook: bool) -> None:
            configure(self, llm_config, ctx, path_by_hook=path_by_hook)
            self.start.engine.kwargs = llm_config.engine_kwargs

        return live

    patch(SimulatedCluster, "configure_engine", make)


@lie("a_streaming_engine_downloads_nothing")
def bucket_forgotten() -> None:
    """an engine that streams its weights is given no bucket"""
    put(cluster_module, "model_path", lambda kwargs, mirror, path, source_id, path_by_hook: path or source_id)


@lie("the_model_is_no_argument_of_the_config")
def ray_takes_all() -> None:
    """Ray starts its engine with any argument"""
    put(cluster_module, "check_engine_kwargs", lambda kwargs, on_cpu: None)


@lie("on_a_cpu_ray_chooses_the_backend_itself")
def every_engine_is_a_gpus() -> None:
    """an engine for CPUs is one for GPUs"""
    put(cluster_module, "runs_on_cpu", lambda config: False)


@lie("a_misspelt_bucket_is_refused_with_the_config")
def any_source_will_do() -> None:
    """any `model_source` will do"""

    def make(loading: Any) -> Any:
        def lenient(model_id: Any, source: Any, given: Any, *, has_source: bool) -> Any:
            try:
                return loading(model_id, source, given, has_source=has_source)
            except ValueError:
                return loading(model_id, "s3://models/m", given, has_source=has_source)

        return lenient

    patch(config_module, "loading_of", make)


@lie("an_engine_takes_requests_and_shows_nothing_else")
def engine_takes_a_dict() -> None:
    """the engine takes a dict for a request"""
    patch(
        engine_module,
        "read_request",
        lambda read: (
            lambda request, method: read(PlainRequest(**request) if isinstance(request, dict) else request, method)
        ),
    )


@lie("an_engine_takes_requests_and_shows_nothing_else")
def engine_shows_its_records() -> None:
    """hooks see what the fake engine records"""
    put(simulation_module, "EngineForHooks", lambda engine: engine)


@lie("an_engine_that_answers_with_an_error")
def engine_always_answers() -> None:
    """an engine that answers with errors answers well"""
    put(cluster_module, "ErrorInfo", lambda message, code: None)


@lie("an_engine_does_not_know_another_model")
def engine_knows_every_model() -> None:
    """the engine answers for any model"""
    put(engine_module, "error_of", lambda asked, model_id, kwargs: None)


def _place_otherwise(strategy: str | None, **nodes: Any) -> None:
    patch(
        group_module,
        "place",
        lambda place: lambda bundles, given, resources: place(bundles, strategy or given, {**resources, **nodes}),
    )


@lie("a_strict_pack_is_on_one_node")
def everything_is_spread() -> None:
    """all bundles are spread, whatever the strategy"""
    _place_otherwise("SPREAD")


@lie("a_strict_spread_over_more_nodes_than_there_are")
def strict_is_not_strict() -> None:
    """`STRICT_SPREAD` shares a node where it must"""
    _place_otherwise("SPREAD")


@lie("a_strict_pack_that_fits_on_no_node")
def nodes_have_enough() -> None:
    """a node has enough of everything"""
    _place_otherwise(None, **{"node-0": None})


@lie("a_group_tells_hooks_about_itself")
def groups_are_their_nodes() -> None:
    """two groups on the same nodes are one group"""
    put(FakePlacementGroup, "__eq__", lambda self, other: self.node_ids == getattr(other, "node_ids", None))
    put(FakePlacementGroup, "__hash__", lambda self: hash(self.node_ids))


@lie("a_fault_makes_a_hook_fail_on_one_node")
def hooks_do_not_fail_on_nodes() -> None:
    """a hook that a fault makes fail on a node does its work"""
    put(cluster_module, "with_failing_packed", lambda hook, paths, node_id: hook)


# -- running them -----------------------------------------------------------------------------------------------------


def caught_here(name: str) -> None:
    """Tell the lie in this process, and print each scenario's name before it runs, and what comes of it after."""
    recorded = read_recorded()
    logging.disable(logging.CRITICAL)
    MUTANTS[name]()
    due = CAUGHT_BY[name]  # first: the run ends with a scenario that hangs
    for scenario in sorted(SCENARIOS.values(), key=lambda each: each.name != due):
        sys.stdout.write(f"{scenario.name} ")
        sys.stdout.flush()
        try:
            told = run_fake(scenario, processes=scenario.apart)
            scenario.holds(told)
            caught = bool(differences(told, recorded[scenario.name]))
        except Exception:
            caught = True
        sys.stdout.write("caught\n" if caught else "passed\n")
    sys.stdout.flush()
    os._exit(0)  # a lie may leave threads that never end


def caught_by(name: str) -> list[str]:
    """The scenarios that catch a lie, the one at which it hangs among them."""
    command = [sys.executable, "-m", "tests.contract.mutants", "--one", name]
    try:
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=True, env=_environment()
        )
        output = done.stdout
    except subprocess.TimeoutExpired as expired:
        output = (expired.stdout or b"").decode()
    lines = (line.partition(" ") for line in output.splitlines())
    return [scenario for scenario, _, outcome in lines if outcome != "passed"]


def _environment() -> dict[str, str]:
    paths = [str(ROOT / "testing"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def table() -> str:
    """The table for the docs. It does not say how many scenarios catch a lie: that can depend on the machine."""
    rows = ["| the lie | a scenario that catches it |", "|---|---|"]
    rows += [f"| {tell.__doc__} | {CAUGHT_BY[name].replace('_', ' ')} |" for name, tell in MUTANTS.items()]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; gives the exit status."""
    parser = argparse.ArgumentParser(description="Lies told to the fake cluster: does the contract suite catch them?")
    parser.add_argument("--check", action="store_true", help="do not write the table into docs/testing.md")
    parser.add_argument("--one", choices=MUTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        caught_here(options.one)
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        caught = dict(zip(MUTANTS, threads.map(caught_by, MUTANTS), strict=True))
    for name, scenarios in caught.items():
        sys.stdout.write(f"{len(scenarios):3} of {len(SCENARIOS)} scenarios catch: {MUTANTS[name].__doc__}\n")
    survived = [name for name, scenarios in caught.items() if CAUGHT_BY[name] not in scenarios]
    for name in survived:
        sys.stderr.write(f"{CAUGHT_BY[name]} does not catch {name}: {', '.join(caught[name]) or 'nothing'} does\n")
    text = PAGE.read_text(encoding="utf-8")
    wanted = renew(text, {"mutants": table})
    if wanted != text and not survived:
        if options.check:
            sys.stderr.write(f"{PAGE}: the table of lies is stale; run `make mutants`\n")
            return 1
        PAGE.write_text(wanted, encoding="utf-8")
        sys.stderr.write(f"{PAGE}: written\n")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
