"""The fake wings: how a scenario is run on a fake cluster, in this process or in processes of their own.

What the real wing needs too is public here.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakePlacementGroup
from serve_llm_hooks_testing._simulation import replica
from serve_llm_hooks_testing._simulation.made_up import made_up_node
from serve_llm_hooks_testing._simulation.simulated_cluster import SimulatedCluster
from serve_llm_hooks_testing.faults import ReplicaDiesFault

from . import strikes, wing
from .in_processes import is_default, make_fake_group, now_s, prepare
from .told import Names, told_refusal, told_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from .scenario import Model, Scenario
    from .told import Told

__all__ = ["ELSEWHERE", "models_of", "numbered", "on_a_disk", "place", "replica_process", "run_fake"]

PARTLY_INSTALLED = Path(__file__).parent / "partly"
ELSEWHERE = "/elsewhere"


@contextmanager
def replica_process(
    environ: Mapping[str, str], make_group: Callable[[Sequence[int]], Any] | None = None
) -> Iterator[None]:
    """Set up the process of a replica, or that of whoever makes its config, which makes no groups."""
    sys.path.insert(0, str(PARTLY_INSTALLED))
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wing, "make_group", make_group, raising=False)
            for name, value in environ.items():
                patch.setenv(name, value)
            yield
    finally:
        sys.path.remove(str(PARTLY_INSTALLED))
        sys.modules.pop("only_on_some_nodes", None)


def models_of(scenario: Scenario) -> list[Model]:
    """A scenario's models, which take its environment to their nodes, as a deployment's does."""
    if not scenario.environ:
        return list(scenario.models)
    return [
        replace(model, runtime_env={"env_vars": {**(model.runtime_env or {}).get("env_vars", {}), **scenario.environ}})
        for model in scenario.models
    ]


def on_a_disk(scenario: Scenario, folder: str) -> Scenario:
    """A scenario whose runs share a disk, with that."""
    return replace(scenario, environ={**scenario.environ, "SERVE_LLM_HOOKS_NODE_DIR": folder})


def numbered(hooks: Any, node_ids: Sequence[str]) -> Any:
    """A scenario's hooks, and before them the one that numbers the nodes."""
    if not isinstance(hooks, list):  # a mistake that a scenario is about
        return hooks
    slots = {node_id: index for index, node_id in enumerate(node_ids)}
    return [{"hook": strikes.number_nodes, "kwargs": {"slots": slots}}, *hooks]


# -- the fake one -----------------------------------------------------------------------------------------------------


class _OrderedCluster(SimulatedCluster):
    """A fake cluster on which no two moments are the same, so that what came before what can be told.

    Its default group is remembered, by the thread that runs it.
    """

    made: ClassVar[dict[int, Any]] = {}
    _ticks: itertools.count[int]

    def defaults(self, llm_config: Any) -> Any:
        defaults = super().defaults(llm_config)
        self.made[threading.get_ident()] = self.default_group
        return defaults

    def clock(self) -> float:
        self._ticks = self.__dict__.get("_ticks") or itertools.count(1)
        return super().clock() + next(self._ticks) * 1e-7


def fake_config(model: Model, hooks: Any, placement: Any = None) -> Any:
    """A model as a config that needs no Ray."""
    fields = {"accelerator_config": {"kind": "cpu"}, **model.fields}
    return FakeLLMConfig(
        model.model_id,
        hooks,
        model_source=model.source,
        engine_kwargs=model.engine_kwargs,
        runtime_env=model.runtime_env,
        on_error=model.on_error,
        placement_group_config=placement,
        **fields,
    )


def run_fake(
    scenario: Scenario, make_config: Callable[..., Any] = fake_config, *, processes: bool = False
) -> dict[str, Told]:
    """Run a scenario on a fake cluster, in this process or in others; what each model's start told."""
    if scenario.disk:
        with tempfile.TemporaryDirectory() as folder:
            return run_fake(replace(on_a_disk(scenario, folder), disk=False), make_config, processes=processes)
    names = FakeCluster(3).node_names
    cluster = FakeCluster(
        3 if scenario.placement is None else [{"CPU": 4, f"slot-{slot}": 1000} for slot in range(3)],
        group_nodes=scenario.group if scenario.placement is None else None,
        in_group=False,  # the real wing starts outside of Serve
        own_bundles=scenario.own_bundles,
        faults=list(scenario.faults),
        node_timeout_s=scenario.node_timeout_s,
        node_grace_s=scenario.node_grace_s,
        real_sleep_limit_s=0.3,  # for the hooks that block: the real ones do so for longer
        processes=processes,
        setup=partial(prepare, names, now_s()) if processes else None,
    )
    with (
        replica_process(scenario.environ, partial(make_fake_group, names)),
        warnings.catch_warnings(),
        pytest.MonkeyPatch.context() as patch,
        ThreadPoolExecutor() as threads,
    ):
        warnings.simplefilter("ignore")
        patch.setattr(replica, "SimulatedCluster", _OrderedCluster)
        make = partial(make_config, placement=scenario.placement)
        told = threads.map(partial(_start_fake, scenario, cluster, make), models_of(scenario))
        return {model.model_id: each for model, each in zip(scenario.models, told, strict=True)}


def _start_fake(scenario: Scenario, cluster: FakeCluster, make_config: Callable[..., Any], model: Model) -> Told:
    try:
        config = make_config(model, numbered(model.hooks, cluster.node_names))
    except Exception as error:
        return told_refusal(error)
    told: Told = {}
    for _ in range(scenario.times):
        told = _start_once(scenario, cluster, config)
    return told


def _start_once(scenario: Scenario, cluster: FakeCluster, config: Any) -> Told:
    try:
        run = cluster.run(config, check=False)
    except Exception as error:  # it cannot be sent to another process
        return told_refusal(error)
    if scenario.shut_down_s is not None:
        run.shut_down(budget_s=scenario.shut_down_s)
    default_group = _OrderedCluster.made.pop(threading.get_ident(), None)
    if run.output is not None and is_default(run.output.placement_group, cluster.default_group):
        default_group = run.output.placement_group
    engine = run.engine
    told = told_start(
        error=run.error,
        ctx=run.ctx,
        output=run.output,
        default_group=default_group,
        group_nodes=_fake_group_nodes,
        engine=None
        if engine is None
        else {"kwargs": engine.kwargs, "frontend kwargs": engine.frontend_kwargs, "model path": engine.model_path},
        names=Names([made_up_node(name) for name in cluster.node_names], _fake_path),
    )
    dies = any(isinstance(fault, ReplicaDiesFault) for fault in scenario.faults)
    return told | ({"died": len(run.earlier_starts)} if dies else {})


def _fake_group_nodes(group: FakePlacementGroup) -> tuple[str, ...]:
    return group.node_ids


def _fake_path(text: str) -> str:
    return place(text, downloads=("/models/",))


def place(text: str, *, downloads: tuple[str, ...]) -> str:
    """Where a download went, without the wing's own folders."""
    if not text.startswith("/"):
        return text
    if ELSEWHERE in text:
        return "<elsewhere>"
    return "<downloaded>" if text.startswith(downloads) else text
