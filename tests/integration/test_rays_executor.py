"""Hooks in the worker actor of vLLM's executor for Ray: with the executor's environment, and as far as a CPU takes it.

The executor itself asks Ray for the accelerator of each of its workers, which nodes without one do not have. What it
does with them is done here in its place: its worker actors load a model on two nodes, in two ranks that talk.
"""

from __future__ import annotations

import os
import shutil
from importlib import import_module
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from serve_llm_hooks import EngineProcessCtx, hook
from serve_llm_hooks._process.payload import from_text
from tests.engine_models import make_tiny_llama

from .test_engine_processes import start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.ray


@hook("on_engine_process_start", roles="worker")
def register(ctx: EngineProcessCtx) -> None:
    """Fail where the context is not that of the process."""
    assert ctx.process == f"worker-{ctx.rank}"


def start_workers(vllm_config: Any) -> list[Any]:
    """Start the workers of an engine as RayExecutorV2 does, one on each of two nodes; return what they say at last."""
    import ray

    # By name: type checkers need no vLLM.
    v2: Any = import_module("vllm.v1.executor.ray_executor_v2")
    executor = object.__new__(v2.RayExecutorV2)
    executor.parallel_config = vllm_config.parallel_config
    queue = v2.MessageQueue(2, 2)
    workers = [
        ray.remote(num_cpus=0)(v2.RayWorkerProc)
        .options(resources={f"slot-{rank}": 1}, runtime_env=executor._build_runtime_env())
        .remote(vllm_config, rank, queue.export_handle(), is_driver_worker=rank == 0, is_driver_node=True)
        for rank in range(2)
    ]
    environ = v2.get_driver_env_vars(worker_specific_vars=v2.WORKER_SPECIFIC_ENV_VARS)
    address = ray.get(workers[0].create_dist_init_method.remote(), timeout=120)
    ray.get(
        [worker.initialize_worker.remote(rank, {}, address, environ) for rank, worker in enumerate(workers)],
        timeout=120,
    )
    ready: list[Any] = ray.get([worker.wait_for_init.remote() for worker in workers], timeout=60)
    return ready


def test_its_workers_run_their_hooks_before_they_load_the_model(
    make_config: Callable[..., Any], three_nodes: list[str], tmp_path: Path
) -> None:
    model = str(make_tiny_llama(tmp_path / "llama"))
    args: dict[str, Any] = {"tensor_parallel_size": 2, "enforce_eager": True, "dtype": "bfloat16", "max_model_len": 64}
    ready: list[Any] = []

    def engine(config: Any, text: str) -> None:
        _, (folder, _) = from_text(text)
        shutil.rmtree(folder)  # the nodes are other machines
        ready.extend(start_workers(vllm_config))

    with patch.dict(os.environ, VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="nobind"):  # vLLM sets others
        vllm_config = import_module("vllm.engine.arg_utils").EngineArgs(model, **args).create_engine_config()
        trace, error = start(make_config(register), engine)
    assert [each["status"] for each in ready] == ["READY", "READY"]
    assert {(event.process, event.outcome, event.node_id) for event in trace} == {
        ("worker-0", "ok", three_nodes[0]),
        ("worker-1", "ok", three_nodes[1]),
    }
    assert "core of the engine did not run" in str(error)
