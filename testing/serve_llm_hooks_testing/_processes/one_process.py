"""All of a run in one fresh process: there, the replica and its nodes share what processes have of their own."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HookPickleError, Trace
from serve_llm_hooks._core.lazy_instance import LazyInstance

from .._simulation.replica import check_config_pickles, run_replica
from .._simulation.start import ReplicaStart
from ..errors import HarnessError, ReplicaProcessError
from ..run import FakeNode, FakeRun
from .channel import Broken, Done
from .child import Job
from .importable import modules_by_value
from .local_replica import check_platform, rounds_in_folder
from .packed_run import PackedRun, pack_run, unpack_run
from .remote_replica import config_for_process, settings_for_process, surroundings_of
from .replica_work import known_objects
from .spawning import imports_of

if TYPE_CHECKING:
    from .._simulation.settings import ClusterSettings
    from .channel import Channel


@dataclass(frozen=True)
class WholeRun:
    """A run for a process of its own, which does it as the test's process would.

    Attributes:
        settings, config: the cluster's settings and the replica's config, pickled.
    """

    settings: bytes
    config: bytes

    def run(self, channel: Channel) -> None:
        """Do the run, and stop the replica if it has started."""
        _share_callbacks()
        settings: ClusterSettings = pickle.loads(self.settings)
        settings.shares_environment = True
        run = run_replica(settings, pickle.loads(self.config))
        if run._stop is not None:
            run._stop(None)
        channel.send(Done(pack_run(run, known_objects(settings))))


def _share_callbacks() -> None:
    """From now on, let the replica and nodes have one object of a callback class, which no two processes have."""
    made: dict[str, Any] = {}
    own = LazyInstance.get

    def get(instance: LazyInstance) -> Any:
        if instance.made is None:
            instance.made = made.get(instance.key)
        return made.setdefault(instance.key, own(instance))

    LazyInstance.get = get  # type: ignore[assignment]  # in this process, which is for one run


def run_in_one_process(settings: ClusterSettings, config: Any) -> FakeRun:
    """Start a replica and do its nodes' work in one process, and stop the replica there.

    Raises:
        HarnessError: this system has no such processes, or the run cannot be done in one.
    """
    check_platform()
    try:
        check_config_pickles(config)
    except HookPickleError as error:
        return ReplicaStart(str(config.model_id), settings.node_names).end(error, 0.0)
    with rounds_in_folder(settings) as (rounds, _), modules_by_value(config):
        surroundings = surroundings_of(settings, config)
        work = WholeRun(settings_for_process(settings), config_for_process(config))

        def job(dump_file: str) -> Job:
            return Job(surroundings.on_node(surroundings.folder, dump_file, {}), work)

        member = rounds.start("the run", 0, job, imports_of(config))
        rounds.settle()
    if isinstance(member.result, PackedRun):
        return unpack_run(member.result, known_objects(settings), settings.node_names)
    if isinstance(member.failure, Broken):
        raise HarnessError(f"the run has failed in its process:\n{member.failure.traceback.rstrip()}")
    nodes = {node_id: FakeNode(node_id) for node_id in settings.node_names}
    ended = ReplicaProcessError(f"the process of the run {member.failure or 'ended without a word'}")
    return FakeRun(str(config.model_id), nodes, Trace(clock=float, epoch_s=0.0), error=ended)
