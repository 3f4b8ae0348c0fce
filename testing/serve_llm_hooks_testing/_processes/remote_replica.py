"""The replica, each restart of it, and its nodes: all in processes of their own."""

from __future__ import annotations

import copy
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HookPickleError, HookRegistry, ServeLLMHooksError, Trace
from serve_llm_hooks._node.by_value import dumps
from serve_llm_hooks._sources.select import hooks_of_config, hooks_of_script

from .._simulation.process_states import variables_of
from .._simulation.replica import check_config_pickles
from .._simulation.settings import ClusterSettings
from .._simulation.start import ReplicaStart, set_hooks
from .._virtual_time.clock import read_system_clocks
from ..errors import HarnessError, ReplicaProcessError
from ..faults import ReplicaDiesFault
from ..run import FakeNode, FakeRun
from .channel import Broken, Go
from .child import Job
from .importable import modules_by_value
from .local_replica import check_platform, rounds_in_folder
from .node_processes import NodeProcesses
from .packed_run import unpack_run
from .replaced import names_of_hooks
from .replica_work import ReplicaOutcome, ReplicaWork, known_objects
from .spawning import imports_of
from .surroundings import of_this_process

if TYPE_CHECKING:
    from pathlib import Path

    from serve_llm_hooks import HookName

    from ..run import Ended
    from .rounds import ProcessMember, Rounds
    from .surroundings import Surroundings


def run_in_processes(settings: ClusterSettings, config: Any) -> FakeRun:
    """Start a replica in a process; start it again in another, as Serve does, when that dies.

    Raises:
        HarnessError: this system has no such processes, or none can be started.
    """
    check_platform()
    try:
        check_config_pickles(config)
    except HookPickleError as error:
        return ReplicaStart(str(config.model_id), settings.node_names).end(error, 0.0)
    with rounds_in_folder(settings) as (rounds, folder), modules_by_value(config):
        run = _Starts(settings, config, rounds, folder).run_until_alive()
    run.notes = tuple(dict.fromkeys([*run.notes, *rounds.notes]))
    return run


class _Starts:
    """The starts of one run, one after another."""

    def __init__(self, settings: ClusterSettings, config: Any, rounds: Rounds, folder: Path) -> None:
        self._settings = settings
        self._config = config
        self._rounds = rounds
        self._folder = folder
        self._surroundings: Surroundings = surroundings_of(settings, config)
        self._packed = (settings_for_process(settings), config_for_process(config))
        self._names = names_of_hooks(config)
        self._beginning = read_system_clocks()
        self._notes: list[str] = []
        self._struck: set[int] = set()

    def run_until_alive(self) -> FakeRun:
        deaths: Counter[int] = Counter()
        for index, fault in enumerate(self._settings.faults):
            if isinstance(fault, ReplicaDiesFault):
                deaths[index] += fault.times
        died: list[FakeRun] = []
        while True:
            deadly: dict[HookName, int] = {self._death(index).at: index for index, left in deaths.items() if left}
            run, has_died, died_at = self._start(tuple(deadly))
            if not has_died:
                break
            died.append(run)
            if died_at is None:  # it was its timing
                continue
            index = deadly[died_at]
            deaths[index] -= 1
            self._struck.add(index)
            self._rounds.now_s += self._death(index).restart_s
        run.earlier_starts = tuple(died)
        run.notes = tuple(self._notes)
        run.unstruck = tuple(fault for index, fault in enumerate(self._settings.faults) if index not in self._struck)
        return run

    def _death(self, index: int) -> ReplicaDiesFault:
        fault = self._settings.faults[index]
        assert isinstance(fault, ReplicaDiesFault)
        return fault

    def _start(self, deadly: tuple[HookName, ...]) -> tuple[FakeRun, bool, HookName | None]:
        """Start the replica once. Return the run, whether its process was killed, and at which point by a fault."""
        work = ReplicaWork(*self._packed, deadly, self._rounds.now_s, self._beginning)

        def job(dump_file: str) -> Job:
            return Job(self._surroundings.on_node(self._surroundings.folder, dump_file, {}), work, self._names)

        replica = self._rounds.start("the replica", 0, job, imports_of(self._config))
        nodes = NodeProcesses(self._rounds, replica, self._surroundings, self._folder)
        while True:
            nodes.deliver()
            if self._rounds.settle():
                continue
            if replica.state == "ended":
                break
            self._take_turns(replica)
        self._rounds.kill_all()
        run, has_died, died_at = self._run_of(replica)
        with suppress(ServeLLMHooksError):  # else the run has failed with it
            hooks = (hook for hook in hooks_of_config(self._config) if hook.ref not in self._settings.left_out)
            set_hooks(run, self._config, HookRegistry(hooks))
        if (
            run.error is None
            and not self._settings.stops_replica
            and any("on_shutdown" in (hook.point, hook.options.until) for hook in run.hooks)
        ):
            run._stop = _refuse_to_stop
        return run, has_died, died_at

    def _take_turns(self, replica: ProcessMember) -> None:
        rounds = self._rounds
        due = rounds.next_turn()
        if due:
            rounds.go(due)
        else:
            replica.go(Go(rounds.now_s, deadlock=rounds.deadlock_message()))

    def _run_of(self, replica: ProcessMember) -> tuple[FakeRun, bool, HookName | None]:
        outcome = replica.result
        if isinstance(outcome, ReplicaOutcome):
            run = unpack_run(outcome.run, known_objects(self._settings), self._settings.node_names)
            self._struck.update(outcome.struck)
            self._notes += outcome.notes
            return run, outcome.has_died, outcome.died_at
        failure = replica.failure
        error: HarnessError
        if isinstance(failure, Broken):
            what = "setup= failed" if failure.in_setup else "the replica could not be run"
            error = HarnessError(f"{what} in the replica's process:\n{failure.traceback.rstrip()}")
        else:
            error = ReplicaProcessError(
                f"the replica's process {failure or 'ended without a word'}; Serve would start another"
            )
        nodes = {node_id: FakeNode(node_id) for node_id in self._settings.node_names}
        run = FakeRun(str(self._config.model_id), nodes, Trace(clock=float, epoch_s=0.0), error=error)
        run.elapsed_s = self._rounds.now_s
        return run, False, None


def surroundings_of(settings: ClusterSettings, config: Any) -> Surroundings:
    """Return what the replica gets, with its config's variables. Nodes inherit them, as on Ray."""
    own = of_this_process(settings.setup)
    return own.on_node(own.folder, "", {key: str(value) for key, value in variables_of(config).items()})


def settings_for_process(settings: ClusterSettings) -> bytes:
    """Return the settings as a replica's process needs them, pickled.

    Raises:
        HarnessError: a fault cannot be pickled.
    """
    own = object.__new__(ClusterSettings)  # a test may have a subclass, which replicas need not know
    vars(own).update({**vars(settings), "setup": None})
    try:
        return dumps(own)
    except Exception as error:
        raise HarnessError(f"the faults of this cluster cannot be sent to the replica's process: {error}") from error


def config_for_process(config: Any) -> bytes:
    """Return the config pickled as Serve sends it, with the hooks of the running script if it names none."""
    own = copy.copy(config)
    if getattr(own, "hooks", ()) is None and not hasattr(own, "_script_hooks"):
        own._script_hooks = tuple(hooks_of_script(str(own.model_id)))
    return dumps(own)


def _refuse_to_stop(budget_s: float | None) -> Ended:
    raise HarnessError(
        "run.shut_down() needs the replica's process, which has ended with its start: use processes='nodes', which "
        "leaves the replica in the test's process"
    )
