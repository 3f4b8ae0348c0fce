"""The two wings: how a scenario is run on a fake cluster, and on a real one."""

from __future__ import annotations

import asyncio
import copy
import importlib
import itertools
import os
import signal
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, FakePlacementGroup, faults as f
from serve_llm_hooks_testing._simulation import replica
from serve_llm_hooks_testing._simulation.simulated_cluster import SimulatedCluster, made_up_node

from . import strikes, wing
from .in_processes import is_default, make_fake_group, now_s, prepare
from .told import Names, told_start
from .vllm_processes import start_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from serve_llm_hooks._replica.initialize import Initialization

    from .scenario import Model, Scenario
    from .told import Told

__all__ = ["RealWing", "real_config", "run_fake"]

PARTLY_INSTALLED = Path(__file__).parent / "partly"
_ELSEWHERE = "/elsewhere"
DEATHS: dict[str | None, Any] = {
    "on_before_node_download": strikes.die_before_download,
    "on_after_node_download": strikes.die_after_download,
    "on_after_node_engine_init": strikes.die_after_engine,
}


@contextmanager
def _replica(scenario: Scenario, make_group: Callable[[Sequence[int]], Any]) -> Iterator[None]:
    """What both wings' replica, which is this process, has."""
    wing.make_group = make_group
    sys.path.insert(0, str(PARTLY_INSTALLED))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in scenario.environ.items():
                patch.setenv(name, value)
            yield
    finally:
        sys.path.remove(str(PARTLY_INSTALLED))
        sys.modules.pop("only_on_some_nodes", None)
        del wing.make_group


def _models(scenario: Scenario) -> list[Model]:
    """A scenario's models, which take its environment to their nodes, as a deployment's does."""
    if not scenario.environ:
        return list(scenario.models)
    return [
        replace(model, runtime_env={"env_vars": {**(model.runtime_env or {}).get("env_vars", {}), **scenario.environ}})
        for model in scenario.models
    ]


def _numbered(hooks: Any, node_ids: Sequence[str]) -> Any:
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
        _replica(scenario, partial(make_fake_group, names)),
        warnings.catch_warnings(),
        pytest.MonkeyPatch.context() as patch,
        ThreadPoolExecutor() as threads,
    ):
        warnings.simplefilter("ignore")
        patch.setattr(replica, "SimulatedCluster", _OrderedCluster)
        make = partial(make_config, placement=scenario.placement)
        told = threads.map(partial(_start_fake, scenario, cluster, make), _models(scenario))
        return {model.model_id: each for model, each in zip(scenario.models, told, strict=True)}


def _start_fake(scenario: Scenario, cluster: FakeCluster, make_config: Callable[..., Any], model: Model) -> Told:
    names = Names([made_up_node(name) for name in cluster.node_names], _fake_path)
    fields: dict[str, Any] = {"group_nodes": _fake_group_nodes, "names": names}
    try:
        config = make_config(model, _numbered(model.hooks, cluster.node_names))
        run = cluster.run(config, check=False)
    except Exception as error:  # before there is a start: the config is refused, or cannot be shipped
        return told_start(error=error, ctx=None, output=None, engine=None, default_group=None, **fields)
    if scenario.shut_down_s is not None:
        run.shut_down(budget_s=scenario.shut_down_s)
    default_group = _OrderedCluster.made.pop(threading.get_ident(), None)
    if run.output is not None and is_default(run.output.placement_group, cluster.default_group):
        default_group = run.output.placement_group
    engine = run.engine
    return told_start(
        error=run.error,
        ctx=run.ctx,
        output=run.output,
        default_group=default_group,
        engine=None
        if engine is None
        else {"kwargs": engine.kwargs, "frontend kwargs": engine.frontend_kwargs, "model path": engine.model_path},
        **fields,
    )


def _fake_group_nodes(group: FakePlacementGroup) -> tuple[str, ...]:
    return group.node_ids


def _fake_path(text: str) -> str:
    return _place(text, downloads=("/models/",))


def _place(text: str, *, downloads: tuple[str, ...]) -> str:
    """Where a download went, without the wing's own folders."""
    if not text.startswith("/"):
        return text
    if _ELSEWHERE in text:
        return "<elsewhere>"
    return "<downloaded>" if text.startswith(downloads) else text


# -- the real one -----------------------------------------------------------------------------------------------------


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

    def run(self, scenario: Scenario) -> dict[str, Told]:
        """Run a scenario; what each model's start told."""
        from serve_llm_hooks.ray import RayCluster

        with self._nodes(scenario) as (slots, node_ids, raylet_pid), _Groups(slots) as groups:
            names = Names([RayCluster().node(node_id) for node_id in node_ids], self._path)

            async def start_all() -> list[Told]:
                return await asyncio.gather(
                    *(self._start(scenario, model, names, node_ids, groups, raylet_pid) for model in _models(scenario))
                )

            with _replica(scenario, groups.make), pytest.MonkeyPatch.context() as patch:
                if scenario.own_bundles is not None:  # as Ray's data-parallel server does
                    patch.setenv("VLLM_RAY_BUNDLE_INDICES", ",".join(map(str, scenario.own_bundles)))
                told = asyncio.run(start_all())
        return {model.model_id: each for model, each in zip(scenario.models, told, strict=True)}

    async def _start(
        self,
        scenario: Scenario,
        model: Model,
        names: Names,
        node_ids: Sequence[str],
        groups: _Groups,
        raylet_pid: int | None,
    ) -> Told:
        import cloudpickle

        from serve_llm_hooks import initialization
        from serve_llm_hooks.ray import RayCluster

        error: Exception | None = None
        begun: list[Initialization] = []
        engine: list[dict[str, Any]] = []
        cluster = _watched(RayCluster)(
            node_timeout_s=scenario.node_timeout_s, node_grace_s=scenario.node_grace_s, placement_group_timeout_s=60
        )
        bundles = [{"CPU": 1, f"slot-{slot}": 1} for slot in groups.slots[: scenario.group]]
        for fault in scenario.faults:
            if isinstance(fault, f.UnschedulableFault):
                bundles[0]["CPU"] = 1000
        placement = scenario.placement or {"bundles": bundles, "strategy": "PACK"}
        try:
            hooks = _numbered(model.hooks, node_ids)
            if isinstance(hooks, list):
                hooks = [*_failing(hooks, scenario), *self._strikes(scenario, raylet_pid)]
            config = real_config(model, hooks, placement)
            cloudpickle.dumps(config)  # as Serve does, to send it to its replica
            async with initialization(config, cluster=cluster, on_begin=begun.append) as run:
                run.engine = _start_engine(scenario, config, engine)
        except Exception as failure:
            error = failure
        if scenario.shut_down_s is not None and begun:
            await begun[0].shut_down(budget_s=scenario.shut_down_s)
        return told_start(
            error=error,
            ctx=begun[0].ctx if begun else None,
            output=begun[0].output if begun and error is None else None,
            default_group=cluster.acquired,
            group_nodes=groups.nodes_of,
            engine=engine[0] if engine else None,
            names=names,
        )

    @contextmanager
    def _nodes(self, scenario: Scenario) -> Iterator[tuple[list[int], list[str], int | None]]:
        """The run's nodes: their slots and ids, and the raylet of the one that comes to grief."""
        lost = [fault for fault in scenario.faults if isinstance(fault, f.LostNodeFault)]
        if not lost or scenario.how == "worker":
            yield [0, 1, 2], self._node_ids, None
            return
        import ray

        slot = next(self._fresh)
        node = self._cluster.add_node(num_cpus=4, resources={f"slot-{slot}": 1000})
        pid = node.all_processes["raylet"][0].process.pid
        try:
            (node_id,) = (each["NodeID"] for each in ray.nodes() if f"slot-{slot}" in each["Resources"])
            assert lost[0].node_id == f"node-{scenario.group - 1}", "the last of the group is the fresh one"
            keep = scenario.group - 1
            yield [*range(keep), slot], [*self._node_ids[:keep], node_id], pid
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
            variables["HF_HOME"] += _ELSEWHERE
        elif fault is not None:
            variables["AWS_ENDPOINT_URL_S3"] = f"{self._s3_url}/{'empty' if fault.quietly else 'absent'}"
        Path(variables["HF_HOME"]).mkdir(parents=True, exist_ok=True)
        return variables

    def _path(self, text: str) -> str:
        return _place(text, downloads=(os.environ["HF_HOME"], str(self._folder)))


def _failing(hooks: Sequence[Any], scenario: Scenario) -> list[Any]:
    """A scenario's hooks, with those failing that a fault says fail."""
    faults = {fault.hook: fault for fault in scenario.faults if isinstance(fault, f.HookFailsFault)}
    deaths = {fault.hook: fault for fault in scenario.faults if isinstance(fault, f.EngineProcessDiesFault)}

    def with_fault(hook: Any) -> Any:
        name = getattr(hook, "__name__", "")
        if name in deaths:
            return strikes.dying(hook, deaths[name].process)
        fault = faults.get(name)
        if fault is None:
            return hook
        slot = None if fault.node_id is None else int(fault.node_id.removeprefix("node-"))
        return strikes.failing(hook, slot, fault.error)

    return [with_fault(hook) for hook in hooks]


def _start_engine(scenario: Scenario, config: Any, started: list[dict[str, Any]]) -> Any:
    """Ray's own engine, with what Ray itself would start vLLM with, around a model that gives one answer."""
    from ray.llm._internal.serve.engines.vllm import vllm_engine

    from serve_llm_hooks.ray.internals import AsyncEngineArgs

    with pytest.MonkeyPatch.context() as patch:  # the model is nowhere, so vLLM cannot look at it
        patch.setattr(AsyncEngineArgs, "create_engine_config", lambda self, **about: None)
        # Ray looks here for a model that is there already; it must not find what another scenario has left.
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.devnull)
        args: Any = vllm_engine._get_vllm_engine_config(config)[0]
    start_processes(
        config.get_engine_config().num_devices,
        [fault.process for fault in scenario.faults if isinstance(fault, f.MissingPluginFault)],
    )
    for fault in scenario.faults:
        if isinstance(fault, f.EngineFailsFault):
            raise fault.error
    time.sleep(scenario.engine_s)
    engine = config.get_engine_config()
    given = engine.get_initialization_kwargs()
    added = {name for name in given if name not in engine.engine_kwargs}
    assert added <= {"model", "served_model_name", "distributed_executor_backend", "enable_log_requests"}, added
    assert given["served_model_name"] == [config.model_id]
    started.append(
        {
            "kwargs": copy.deepcopy({name: given[name] for name in engine.engine_kwargs}),
            "frontend kwargs": dict(engine.frontend_kwargs),
            "model path": args.model,
        }
    )
    return answering_engine(scenario, config.model_id)


def answering_engine(scenario: Scenario, model_id: str) -> Any:
    """Ray's engine class, which gives on what a stand-in for vLLM's frontend says."""
    from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine

    engine: Any = VLLMEngine.__new__(VLLMEngine)
    engine._oai_serving_chat = _Serving(scenario, model_id)
    engine._oai_serving_embedding = None
    engine._engine_client = _Serving(scenario, model_id)
    return engine


class _Serving:
    """A stand-in for what vLLM's frontend does with a chat request."""

    def __init__(self, scenario: Scenario, model_id: str) -> None:
        self._faults = [fault for fault in scenario.faults if isinstance(fault, f.EngineAnswersErrorFault)]
        self._model_id = model_id

    async def create_chat_completion(self, request: Any, raw_request: Any = None) -> Any:
        """Answer, or refuse."""
        protocol: Any = importlib.import_module("vllm.entrypoints.openai.chat_completion.protocol")
        errors: Any = importlib.import_module("vllm.entrypoints.serve.engine.protocol")
        if request.model != self._model_id:
            message = f"The model `{request.model}` does not exist."
            return errors.ErrorResponse(error=errors.ErrorInfo(message=message, type="NotFoundError", code=404))
        for fault in self._faults:
            info = errors.ErrorInfo(message=fault.message, type="BadRequestError", code=fault.code)
            return errors.ErrorResponse(error=info)
        return protocol.ChatCompletionResponse(
            model=request.model,
            choices=[{"index": 0, "message": {"role": "assistant", "content": "Paris."}, "finish_reason": "stop"}],
            usage={"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
        )

    async def check_health(self) -> None:
        """All is well."""

    async def reset_prefix_cache(self) -> None:
        """There is none."""


def _watched(ray_cluster: Any) -> Any:
    """A ``RayCluster`` that remembers the default group that it made."""

    class Watched(ray_cluster):  # type: ignore[misc]  # a class that is a variable
        acquired: Any = None

        async def acquire_placement_group(self, llm_config: Any) -> Any:
            self.acquired = await super().acquire_placement_group(llm_config)
            return self.acquired

    return Watched


class _Groups:
    """The placement groups of a scenario; removed at its end, those that Ray made included."""

    def __init__(self, slots: Sequence[int]) -> None:
        self.slots = list(slots)

    def make(self, numbers: Sequence[int]) -> Any:
        """A group with a bundle on each of these nodes of the run."""
        import ray

        return ray.util.placement_group([{"CPU": 1, f"slot-{self.slots[number]}": 1} for number in numbers])

    def nodes_of(self, group: Any) -> list[str]:
        """Its nodes, in the order of its bundles, once they are known: not all starts wait for that."""
        import ray

        assert group.wait(60)
        nodes: dict[int, str] = ray.util.placement_group_table(group)["bundles_to_node_id"]
        return [nodes[index] for index in sorted(nodes)]

    def __enter__(self) -> _Groups:
        import ray

        self._before = set(ray.util.placement_group_table())
        return self

    def __exit__(self, *exc_info: object) -> None:
        import ray
        from ray.util.placement_group import PlacementGroup, remove_placement_group

        for group_id, row in ray.util.placement_group_table().items():
            if group_id not in self._before and row["state"] != "REMOVED":
                remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(group_id))))
