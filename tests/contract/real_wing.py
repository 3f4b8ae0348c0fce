"""The real wing: how a scenario is run on a real Ray of three nodes, by a replica in a process of its own."""

from __future__ import annotations

import copy
import itertools
import os
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_llm_hooks_testing import faults as f
from tests.conftest import no_groups_left

from . import strikes
from .real_replica import Replica, Starts
from .scenario import nothing_more
from .strikes import DEATHS, replica_dies
from .told import told_refusal
from .wings import ELSEWHERE, models_of, numbered, on_a_disk, replica_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from serve_llm_hooks import HookName

    from .scenario import Model, Scenario
    from .told import Told

__all__ = ["RealWing", "real_config"]

# Real seconds that a scenario may take. The longest waits 20 s for a node, and a fresh replica imports Ray and vLLM.
LIMIT_S = 300


def real_config(model: Model, hooks: Any, placement: Any = None) -> Any:
    """A model as our ``LLMConfig``."""
    from serve_llm_hooks.ray import LLMConfig

    fields = {"accelerator_config": {"kind": "cpu"}, **model.fields}
    return LLMConfig(
        model_loading_config={"model_id": model.model_id, "model_source": model.source},
        hooks=hooks,
        engine_kwargs=copy.deepcopy(dict(model.engine_kwargs)),  # hooks may change what is in them
        runtime_env=model.runtime_env and {**model.runtime_env},
        placement_group_config=placement,
        callback_config={"raise_error_on_callback": model.on_error == "raise"},
        **fields,
    )


@dataclass(frozen=True)
class _Nodes:
    """A run's nodes: their slots and ids, and the raylet of the one that comes to grief."""

    slots: Sequence[int]
    node_ids: Sequence[str]
    raylet_pid: int | None


class RealWing:
    """A real Ray of three nodes, to which a scenario may add one.

    Args:
        cluster: Ray's ``Cluster``.
        node_ids: its three nodes, the replica's own first.
        s3_url: where the bucket is.
        folder: for what is downloaded elsewhere.
    """

    def __init__(self, cluster: Any, node_ids: Sequence[str], s3_url: str, folder: Path) -> None:
        self._cluster = cluster
        self._node_ids = list(node_ids)
        self._s3_url = s3_url
        self._folder = folder
        self._fresh = itertools.count(3)
        self._replica: Any = None

    def close(self) -> None:
        """End the replica."""
        import ray

        if self._replica is not None:
            ray.kill(self._replica)
            self._replica = None

    def run(self, scenario: Scenario) -> dict[str, Told]:
        """Run a scenario; what each model's start told. A replica that dies is started again in another process."""
        if scenario.disk:
            scenario = on_a_disk(scenario, str(self._folder / f"disk-of-{scenario.name}"))
        deaths = [fault for fault in scenario.faults if isinstance(fault, f.ReplicaDiesFault)]
        assert len(deaths) <= 1, "one replica_dies in a scenario"
        times = deaths[0].times if deaths else 0
        # Here and not in the replica, which may die. Serve's replicas are detached actors, whose groups go with them;
        # those of other actors stay until the driver ends.
        with self._nodes(scenario) as nodes, no_groups_left():
            for died in itertools.count():
                told = self._run_once(scenario, nodes, deaths[0].at if died < times else None)
                if told is not None:
                    return {model_id: each | ({"died": died} if deaths else {}) for model_id, each in told.items()}
        raise AssertionError("unreachable: it dies so many times and no more")

    def _run_once(self, scenario: Scenario, nodes: _Nodes, dies_at: HookName | None) -> dict[str, Told] | None:
        """Send the configs to the replica; what it told, or ``None`` if it has died as it should."""
        import ray

        configs: dict[str, bytes] = {}
        refused: dict[str, Told] = {}
        with replica_process(scenario.environ):  # a config is made where the same environment holds
            for model in models_of(scenario):
                try:
                    configs[model.model_id] = self._config(scenario, model, nodes, dies_at)
                except Exception as error:
                    refused[model.model_id] = told_refusal(error)
        if not configs:
            return refused
        starts = Starts(
            replace(scenario, models=(), holds=nothing_more), configs, nodes.node_ids, nodes.slots, str(self._folder)
        )
        replica = self._living_replica()
        try:
            told = ray.get(replica.run.remote(starts), timeout=LIMIT_S)
        except Exception as error:
            self._replica = None
            if dies_at is not None and isinstance(error, ray.exceptions.RayActorError):
                return None
            ray.kill(replica)  # whatever it does, it does not do it to the next scenario
            raise
        return {**told, **refused}

    def _living_replica(self) -> Any:
        """The replica; a fresh one, if there is none or the last one has died."""
        import ray

        if self._replica is None:
            # More than one thread, so that it does not run in the main one.
            make = ray.remote(num_cpus=0, resources={"slot-0": 0.001}, max_concurrency=2)
            self._replica = make(Replica).remote()
        return self._replica

    def _config(self, scenario: Scenario, model: Model, nodes: _Nodes, dies_at: HookName | None) -> bytes:
        """A model's config, pickled, as Serve sends it to a replica."""
        import cloudpickle

        bundles = [{"CPU": 1, f"slot-{slot}": 1} for slot in nodes.slots[: scenario.group]]
        if any(isinstance(fault, f.UnschedulableFault) for fault in scenario.faults):
            bundles[0]["CPU"] = 1000
        hooks = numbered(model.hooks, nodes.node_ids)
        if isinstance(hooks, list):
            hooks = [*_failing(hooks, scenario), *self._strikes(scenario, nodes.raylet_pid)]
            if dies_at is not None:
                hooks.append(replica_dies[dies_at])
        placement = scenario.placement or {"bundles": bundles, "strategy": "PACK"}
        pickled: bytes = cloudpickle.dumps(real_config(model, hooks, placement))
        return pickled

    @contextmanager
    def _nodes(self, scenario: Scenario) -> Iterator[_Nodes]:
        """The run's nodes."""
        lost = [fault for fault in scenario.faults if isinstance(fault, f.LostNodeFault)]
        if not lost or scenario.how == "worker":
            yield _Nodes([0, 1, 2], self._node_ids, None)
            return
        import ray

        slot = next(self._fresh)
        node = self._cluster.add_node(num_cpus=4, resources={f"slot-{slot}": 1000})
        pid = node.all_processes["raylet"][0].process.pid
        try:
            (node_id,) = (each["NodeID"] for each in ray.nodes() if f"slot-{slot}" in each["Resources"])
            assert lost[0].node_id == f"node-{scenario.group - 1}", "the last of the group is the fresh one"
            keep = scenario.group - 1
            yield _Nodes([*range(keep), slot], [*self._node_ids[:keep], node_id], pid)
        finally:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
            self._cluster.remove_node(node, allow_graceful=False)

    def _strikes(self, scenario: Scenario, raylet_pid: int | None) -> Iterator[Any]:
        """The hooks that make a scenario's faults happen."""
        downloads = {fault.node_id: fault for fault in scenario.faults if isinstance(fault, f.DownloadFault)}
        if downloads:
            variables = {slot: self._environ(slot, downloads.get(f"node-{slot}")) for slot in range(3)}
            yield {"hook": strikes.set_environ, "kwargs": {"variables": variables}}
        for fault in scenario.faults:
            if isinstance(fault, f.MissingModuleFault):
                assert fault.node_id == "node-1", "what is installed on some nodes is not on the second"
            elif isinstance(fault, f.LostNodeFault) and fault.at is None:
                number = signal.SIGSTOP if fault.noticed_after_s is None else signal.SIGKILL
                yield {"hook": strikes.signal_raylet, "kwargs": {"pid": raylet_pid, "number": int(number)}}
            elif isinstance(fault, f.LostNodeFault):
                yield {
                    "hook": DEATHS[fault.at],
                    "kwargs": {"slot": int(fault.node_id.removeprefix("node-")), "what": scenario.how},
                }

    def _environ(self, slot: int, fault: f.DownloadFault | None) -> dict[str, str]:
        """A node's own: the nodes share a machine, and Ray's downloader locks in the home folder."""
        variables = {"HOME": str(self._folder / f"home-{slot}")}
        variables["HF_HOME"] = variables["HOME"]
        if fault is not None and fault.path is not None:
            variables["HF_HOME"] += ELSEWHERE
        elif fault is not None:
            variables["AWS_ENDPOINT_URL_S3"] = f"{self._s3_url}/{'empty' if fault.quietly else 'absent'}"
        Path(variables["HF_HOME"]).mkdir(parents=True, exist_ok=True)
        return variables


def _failing(hooks: Sequence[Any], scenario: Scenario) -> list[Any]:
    """A scenario's hooks, with those failing that a fault says fail."""
    faults = {fault.hook: fault for fault in scenario.faults if isinstance(fault, f.HookFailsFault)}
    deaths = {fault.hook: fault for fault in scenario.faults if isinstance(fault, f.EngineProcessDiesFault)}
    on_nodes = {fault.hook: fault for fault in scenario.faults if isinstance(fault, f.NodeProcessDiesFault)}

    def with_fault(hook: Any) -> Any:
        if isinstance(hook, dict):
            return {**hook, "hook": with_fault(hook["hook"])}
        name = getattr(hook, "__name__", "")
        if name in deaths:
            return strikes.dying(hook, deaths[name].process)
        if name in on_nodes:
            return strikes.dying_on_node(hook, int(on_nodes[name].node_id.removeprefix("node-")))
        fault = faults.get(name)
        if fault is None:
            return hook
        slot = None if fault.node_id is None else int(fault.node_id.removeprefix("node-"))
        return strikes.failing(hook, slot, fault.error)

    return [with_fault(hook) for hook in hooks]
