"""The replica of the real wing: a Ray actor, in whose process starts run as under Serve.

The configs arrive pickled, and the event loop is not in the main thread.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import os
import pickle
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks_testing import faults as f

from .told import Names, told_start
from .vllm_processes import start_processes
from .wings import place, replica_process

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from serve_llm_hooks._replica.initialize import Initialization

    from .scenario import Scenario
    from .told import Told

__all__ = ["Replica", "Starts"]


@dataclass(frozen=True)
class Starts:
    """The work that a replica is sent.

    Attributes:
        scenario: the scenario, without its models and what must hold.
        configs: each model's config, pickled, by its id.
        node_ids: the run's nodes.
        slots: which of the cluster's nodes each is.
        folder: where downloads go that are not in ``HF_HOME``.
    """

    scenario: Scenario
    configs: Mapping[str, bytes]
    node_ids: Sequence[str]
    slots: Sequence[int]
    folder: str


class Replica:
    """Made an actor by the wing, with more than one thread: then its methods run outside of the main thread."""

    def run(self, starts: Starts) -> dict[str, Told]:
        """Start the models, at once, as often as the scenario says, in one event loop; what the last starts told."""
        scenario = starts.scenario
        environ = dict(scenario.environ)
        if scenario.own_bundles is not None:  # as Ray's data-parallel server does
            environ["VLLM_RAY_BUNDLE_INDICES"] = ",".join(map(str, scenario.own_bundles))
        groups = Groups(starts.slots)
        with replica_process(environ, groups.make):
            return asyncio.run(_start_all(starts, groups))


async def _start_all(starts: Starts, groups: Groups) -> dict[str, Told]:
    from serve_llm_hooks.ray import RayCluster

    names = Names(
        [RayCluster().node(node_id) for node_id in starts.node_ids],
        partial(place, downloads=(os.environ["HF_HOME"], starts.folder)),
    )
    told: list[Told] = []
    for _ in range(starts.scenario.times):
        told = await asyncio.gather(
            *(_start(starts.scenario, pickle.loads(config), names, groups) for config in starts.configs.values())
        )
    return dict(zip(starts.configs, told, strict=True))


async def _start(scenario: Scenario, config: Any, names: Names, groups: Groups) -> Told:
    from serve_llm_hooks import initialization
    from serve_llm_hooks.ray import RayCluster

    error: Exception | None = None
    begun: list[Initialization] = []
    engine: list[dict[str, Any]] = []
    cluster = _watched(RayCluster)(
        node_timeout_s=scenario.node_timeout_s, node_grace_s=scenario.node_grace_s, placement_group_timeout_s=60
    )
    try:
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


def _start_engine(scenario: Scenario, config: Any, started: list[dict[str, Any]]) -> Any:
    """Ray's own engine, with what Ray itself would start vLLM with, around a model that gives one answer."""
    from ray.llm._internal.serve.engines.vllm import vllm_engine

    from serve_llm_hooks.ray import check_engine_args
    from serve_llm_hooks.ray.internals import AsyncEngineArgs

    with pytest.MonkeyPatch.context() as patch:  # the model is nowhere, so vLLM cannot look at it
        patch.setattr(AsyncEngineArgs, "create_engine_config", lambda self, **about: None)
        # Ray looks here for a model that is there already; it must not find what another scenario has left.
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.devnull)
        args: Any = vllm_engine._get_vllm_engine_config(config)[0]
    without_plugin = [fault.process for fault in scenario.faults if isinstance(fault, f.MissingPluginFault)]
    start_processes(config.get_engine_config().num_devices, without_plugin)
    for fault in scenario.faults:
        if isinstance(fault, f.EngineFailsFault):
            raise fault.error
    time.sleep(scenario.engine_s)
    engine = config.get_engine_config()
    given = engine.get_initialization_kwargs()
    added = {name for name in given if name not in engine.engine_kwargs}
    assert added <= {"model", "served_model_name", "distributed_executor_backend", "enable_log_requests"}, added
    assert given["served_model_name"] == [config.model_id]
    kwargs, frontend = {name: given[name] for name in engine.engine_kwargs}, dict(engine.frontend_kwargs)
    # What a fake cluster tells of an engine is all that Ray's own construction of the arguments needs.
    checked = check_engine_args(config, engine_kwargs=kwargs, frontend_kwargs=frontend, model_path=args.model)
    assert AsyncEngineArgs(**checked) == args
    started.append({"kwargs": copy.deepcopy(kwargs), "frontend kwargs": frontend, "model path": args.model})
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


class Groups:
    """The placement groups that a scenario's hooks make, and the nodes of any. The wing removes them at the end."""

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
