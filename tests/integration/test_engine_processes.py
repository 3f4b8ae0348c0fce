"""The ways of hooks to processes of an engine that Ray starts, and back; vLLM's own part is a stand-in's."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import CallbackCtx, EngineProcessCtx, HookError, HookLoadError, Trace, hook, initialization
from serve_llm_hooks._process.payload import from_text
from tests.contract.vllm_processes import EngineArgs, WorkerWrapperBase

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.ray


@hook("on_engine_process_start")
def register(ctx: EngineProcessCtx) -> None: ...


@hook("on_engine_process_start")
def fails_elsewhere(ctx: EngineProcessCtx) -> None:
    if ctx.role == "worker":
        raise LookupError("no such kernel")


def start(config: Any, engine: Callable[[Any, str], object]) -> tuple[Trace, Exception]:
    """Start a replica whose engine has no core, which is told; return its trace, and what it fails with."""
    from serve_llm_hooks.ray import RayCluster
    from serve_llm_hooks.ray.hand_over import hand_over

    traces: list[Trace] = []

    async def main() -> None:
        import os

        async with initialization(config, cluster=RayCluster(), on_begin=lambda run: traces.append(run.trace)) as run:
            hand_over(config, run.ctx, run.ctx.runtime_env)
            engine(config, os.environ["SERVE_LLM_HOOKS_ENGINE"])

    with pytest.raises((HookError, HookLoadError)) as caught:
        asyncio.run(main())
    return traces[0], caught.value


def on_second_node(function: Callable[..., object], *arguments: object) -> None:
    """Call a function in a task of Ray's on the second node."""
    import ray

    task = ray.remote(num_cpus=0, resources={"slot-1": 1}, max_calls=1)(function)  # vLLM begins once in a process
    ray.get(task.remote(*arguments))


def make_engine_config(config: Any) -> None:
    """As the task that builds the engine's config on a GPU, which is sent the config."""
    EngineArgs().__post_init__()


def be_a_worker(text: str) -> None:
    """As a worker of vLLM's executor for Ray, which has the environment of the core, and no folder of the replica's."""
    import os

    os.environ.update(SERVE_LLM_HOOKS_ENGINE=text, CONTRACT_NO_PLUGIN="")
    WorkerWrapperBase(1).init_worker()


@pytest.mark.fault(
    "vLLM does not load the plugin in a process of the engine",
    promise="an error names the process: a hook at `on_engine_process_start` is never absent without a word",
)
def test_the_task_that_builds_the_config_gets_the_hooks_with_it(
    make_config: Callable[..., Any], three_nodes: list[str]
) -> None:
    trace, error = start(make_config(register), lambda config, _: on_second_node(make_engine_config, config))
    calls = [(event.process, event.node_id) for event in trace]
    assert calls == [("frontend", three_nodes[0]), ("config", three_nodes[1])]
    assert "core, worker-0 of the engine did not run 1 hook" in str(error)


def test_a_worker_on_another_node_tells_by_rays_store(make_config: Callable[..., Any], three_nodes: list[str]) -> None:
    def engine(config: Any, text: str) -> None:
        _, (folder, _) = from_text(text)
        shutil.rmtree(folder)  # that node is another machine
        on_second_node(be_a_worker, text)

    trace, error = start(make_config(register), engine)
    calls = [(event.process, event.node_id) for event in trace]
    assert calls == [("frontend", three_nodes[0]), ("worker-1", three_nodes[1])]
    assert "core, worker-0 of the engine" in str(error)


@pytest.mark.fault(
    "a hook fails in one process of the engine",
    promise="the start fails with the hook's own error, which names the process; vLLM's is its cause",
)
def test_what_fails_on_another_node_is_told_in_its_own_words(
    make_config: Callable[..., Any], three_nodes: list[str]
) -> None:
    def engine(config: Any, text: str) -> None:
        _, (folder, _) = from_text(text)
        shutil.rmtree(folder)
        on_second_node(be_a_worker, text)

    _, error = start(make_config(fails_elsewhere), engine)
    assert isinstance(error, HookError)
    assert (error.process, error.node_id) == ("worker-1", three_nodes[1])
    assert "LookupError: no such kernel" in str(error)


@pytest.mark.fault(
    "work in the background fails, for which the engine's workers wait",
    promise="the waiting workers end, on other nodes too, and the start fails with the hook's own error",
)
@pytest.mark.parametrize("fails", [False, True])
def test_a_worker_on_another_node_hears_that_the_background_is_over(
    fails: bool, make_config: Callable[..., Any], three_nodes: list[str]
) -> None:
    @hook("on_before_engine_init", until="on_engine_process_start")
    async def fetch(ctx: CallbackCtx) -> None:
        await asyncio.sleep(0.5)
        if fails:
            raise OSError("no space left")

    def engine(config: Any, text: str) -> None:
        _, (folder, _) = from_text(text)
        shutil.rmtree(folder)
        on_second_node(be_a_worker, text)

    trace, error = start(make_config(fetch, register), engine)
    if fails:
        assert str(error).endswith("failed at on_before_engine_init for model 'm': OSError: no space left")
        return
    assert "core, worker-0 of the engine did not run 1 hook" in str(error)
    fetched, registered = (next(e for e in trace if e.name == name and e.ran) for name in ("fetch", "register"))
    (in_worker,) = (event for event in trace if event.process == "worker-1")
    assert registered.process == "frontend"
    assert in_worker.start_s >= fetched.end_s
