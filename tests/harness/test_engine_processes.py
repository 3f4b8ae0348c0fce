"""The processes of a fake engine: which there are, where, how long they take, and how they fail."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

from serve_llm_hooks import CallbackCtx, EngineProcessCtx, HookError, HookLoadError, HookPickleError, HookRegistry
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    HarnessError,
    HarnessWarning,
    call_hook,
    callback_ctx,
    check_hooks,
    engine_fails,
    engine_process_ctx,
    engine_process_dies,
    hook_fails,
    lost_node,
    missing_module,
    missing_plugin,
    replica_dies,
)
from serve_llm_hooks_testing._simulation import vllm_stand_in

if TYPE_CHECKING:
    from serve_llm_hooks_testing import FakeRun

POINT: Final = "on_engine_process_start"
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")
hooks = HookRegistry()


@hooks.hook("on_engine_process_start")
def set_up(ctx: EngineProcessCtx) -> None: ...


@hooks.hook("on_engine_process_start", on_error="warn")
def tell(ctx: EngineProcessCtx) -> None:
    """Tell what is to be seen in the trace alone."""
    raise LookupError(f"{os.getpid()} {threading.current_thread() is threading.main_thread()}")


@hooks.hook("on_engine_process_start", roles="worker")
def wait(ctx: EngineProcessCtx) -> None:
    time.sleep(20)


def run(*which: Any, workers: int = 2, cluster: FakeCluster | None = None, **fields: Any) -> FakeRun:
    """Start a replica whose engine has so many workers."""
    kwargs = {"tensor_parallel_size": workers, **fields.pop("engine_kwargs", {})}
    config = FakeLLMConfig("m", hooks=list(which), engine_kwargs=kwargs, **fields)
    return (cluster or FakeCluster(nodes=2)).run(config, check=False)


def test_on_a_gpu_ray_has_a_process_that_makes_the_config_and_workers_are_on_their_bundles_nodes() -> None:
    found = run(set_up)
    assert [(event.process, event.node_id) for event in found.trace] == [
        ("frontend", "node-0"),
        ("config", "node-0"),
        ("core", "node-0"),
        ("worker-0", "node-0"),
        ("worker-1", "node-1"),
    ]
    assert len({event.process_id for event in found.trace}) == 5


def test_on_a_cpu_all_are_on_the_replicas_node() -> None:
    found = run(set_up, accelerator_config={"kind": "cpu"})
    assert [(event.process, event.node_id) for event in found.trace] == [
        ("frontend", "node-0"), ("core", "node-0"), ("worker-0", "node-0"), ("worker-1", "node-0"),
    ]  # fmt: skip


def test_workers_wait_at_the_same_time_and_the_engine_starts_later() -> None:
    found = run(wait, cluster=FakeCluster(engine_start_s=30, download_s=0))
    assert found.error is None
    assert found.elapsed_s == 50
    assert [(event.start_s, event.end_s) for event in found.trace] == [(0, 20), (0, 20)]


@ON_LINUX
def test_in_processes_of_their_own_each_runs_in_its_main_thread() -> None:
    found = run(tell, wait, cluster=FakeCluster(processes=True, engine_start_s=30, download_s=0))
    assert found.error is None
    seen = {event.process: event.detail.split()[1:] for event in found.trace if event.name == "tell"}
    assert len({pid for pid, _ in seen.values()}) == 5
    assert {name: main for name, (_, main) in seen.items()} == {
        "frontend": "False", "config": "True", "core": "True", "worker-0": "True", "worker-1": "True",
    }  # fmt: skip
    assert found.elapsed_s == pytest.approx(50, abs=0.1)


@ON_LINUX
@pytest.mark.parametrize("processes", ["nodes", True])
def test_a_process_that_ends_itself_is_told(processes: Any) -> None:
    found = run(set_up, ends_core, cluster=FakeCluster(processes=processes))
    assert isinstance(found.error, HookError)
    assert (found.error.process, found.error.hook) == ("core", f"{__name__}:ends_core")
    assert "did not end at on_engine_process_start" in str(found.error)
    assert [event.name for event in found.trace if event.process == "core"] == ["set_up"]
    assert [note for note in found.notes if note.startswith("core of the engine")] == [
        "core of the engine exited with code 1"
    ]


@hooks.hook("on_engine_process_start", roles="core")
def ends_core(ctx: EngineProcessCtx) -> None:
    os._exit(1)


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=ON_LINUX)])
def test_the_task_that_builds_the_config_has_not_what_hooks_put_into_the_replicas_environment(
    processes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_A_HOOK", "removed at the end")
    monkeypatch.delenv("OF_A_HOOK")
    found = run(sets_a_variable, wants_the_variable, cluster=FakeCluster(processes=processes))
    assert found.error is None
    seen = {event.process: event.detail for event in found.trace if event.name == "wants_the_variable"}
    assert {process for process, detail in seen.items() if not detail} == {"frontend", "core", "worker-0", "worker-1"}
    assert "LookupError" in seen["config"]


@hooks.hook("on_before_engine_init")
def sets_a_variable(ctx: CallbackCtx) -> None:
    os.environ["OF_A_HOOK"] = "there"


@hooks.hook("on_engine_process_start", on_error="warn")
def wants_the_variable(ctx: EngineProcessCtx) -> None:
    if "OF_A_HOOK" not in os.environ:
        raise LookupError("it is not there")


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=ON_LINUX)])
def test_an_engine_whose_config_task_dies_does_not_start(processes: bool) -> None:
    found = run(set_up, cluster=FakeCluster(processes=processes, faults=[engine_process_dies("config")]))
    assert isinstance(found.error, HookError)
    assert found.error.process == "config"


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=ON_LINUX)])
def test_the_trace_has_what_a_process_did_before_the_engines_start_was_given_up(processes: bool) -> None:
    cluster = FakeCluster(download_s=0, engine_import_s=0, processes=processes)
    found = run(fails_after_ten_s, set_up, core_takes_twenty_s, cluster=cluster)
    assert isinstance(found.error, HookError)
    assert found.elapsed_s == pytest.approx(10, abs=0.1)
    assert [event.name for event in found.trace if event.process == "core"] == ["set_up"]


@hooks.hook("on_before_download", until="on_engine_process_start")
async def fails_after_ten_s(ctx: CallbackCtx) -> None:
    await asyncio.sleep(10)
    raise OSError("no mirror")


@hooks.hook("on_engine_process_start", roles="core")
def core_takes_twenty_s(ctx: EngineProcessCtx) -> None:
    time.sleep(20)


def test_a_process_dies_in_the_hook_that_is_named_or_in_its_first() -> None:
    first = run(set_up, tell, cluster=FakeCluster(faults=[engine_process_dies("worker-1")]))
    named = run(set_up, tell, cluster=FakeCluster(faults=[engine_process_dies("core", in_hook="tell")]))
    assert [each.error.hook.rpartition(":")[2] for each in (first, named)] == ["set_up", "tell"]  # type: ignore[union-attr]  # it failed
    assert first.unstruck == named.unstruck == ()


def test_a_fault_that_no_process_comes_to_is_told() -> None:
    with pytest.warns(HarnessWarning, match=r"^engine_process_dies\('worker-3'\) never struck"):
        run(set_up, workers=1, cluster=FakeCluster(faults=[engine_process_dies("worker-3")]))


def test_a_process_without_the_plugin_or_the_module() -> None:
    without = run(set_up, cluster=FakeCluster(faults=[missing_plugin("core")]))
    assert isinstance(without.error, HookLoadError)
    assert "core of the engine did not run 1 hook" in str(without.error)
    no_module = run(set_up, cluster=FakeCluster(faults=[missing_module("node-1", __name__)]))
    assert f"hooks module {__name__!r} cannot be imported in worker-1 on node node-1" in str(no_module.error)


def test_a_hook_can_fail_everywhere_or_on_one_node() -> None:
    everywhere = run(set_up, cluster=FakeCluster(faults=[hook_fails("set_up", "no parser")]))
    there = run(set_up, cluster=FakeCluster(faults=[hook_fails("set_up", "no parser", node="node-1")]))
    assert [each.error.process for each in (everywhere, there)] == ["frontend", "worker-1"]  # type: ignore[union-attr]  # it failed


def test_the_engines_own_failure_comes_later() -> None:
    found = run(set_up, cluster=FakeCluster(faults=[engine_fails("out of memory")]))
    assert str(found.error) == "out of memory"
    assert len(found.trace) == 5


@pytest.mark.parametrize("process", ["worker", "frontend", "worker-x", ""])
def test_a_fault_is_of_a_process_that_there_is(process: str) -> None:
    with pytest.raises(HarnessError):
        engine_process_dies(process)
    with pytest.raises(HarnessError):
        missing_plugin(process)


def test_other_faults_do_not_happen_at_this_point() -> None:
    for fault in (lost_node, replica_dies):
        arguments: Any = {"node_id": "node-1"} if fault is lost_node else {}
        with pytest.raises(HarnessError, match="engine_process_dies"):
            fault(at=POINT, **arguments)


def test_a_config_whose_variables_leave_the_plugin_out_is_refused() -> None:
    with pytest.raises(HookLoadError, match="VLLM_PLUGINS='mine' leaves out 'serve_llm_hooks'"):
        FakeLLMConfig("m", hooks=[set_up], runtime_env={"env_vars": {"VLLM_PLUGINS": "mine"}})
    FakeLLMConfig("m", hooks=[set_up], runtime_env={"env_vars": {"VLLM_PLUGINS": "mine,serve_llm_hooks"}})


def test_a_hook_alone_is_given_the_ctx_of_a_process() -> None:
    seen: list[str] = []

    @HookRegistry().hook("on_engine_process_start")
    def look(ctx: EngineProcessCtx) -> None:
        seen.append(f"{ctx.process} {ctx.custom_data['a']}")

    call_hook(look, engine_process_ctx(rank=3, custom_data={"a": 1}))
    call_hook(look, engine_process_ctx(role="core", custom_data={"a": 2}))
    assert seen == ["worker-3 1", "core 2"]
    with pytest.raises(HarnessError, match=r"engine_process_ctx\(\)"):
        call_hook(look, callback_ctx())


def test_the_checks_of_hooks_know_the_point() -> None:
    own = HookRegistry()

    @own.hook("on_engine_process_start")
    def look(ctx: EngineProcessCtx) -> None:
        raise LookupError("always")

    assert check_hooks(own, check=False, model_id="m").problems
    good = HookRegistry()
    good.hook("on_engine_process_start")(set_up)
    assert check_hooks(good, check=False, model_id="m").problems == []


def test_where_there_is_no_vllm_a_stand_in_takes_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "vllm", raising=False)
    monkeypatch.setattr(vllm_stand_in, "find_spec", lambda name: None)

    @HookRegistry().hook("on_engine_process_start")
    def register(ctx: EngineProcessCtx) -> None:
        from importlib import import_module

        registry: Any = import_module("vllm").ModelRegistry
        assert registry.get_supported_archs() == []  # nor what another process has registered
        registry.register_model("OwnForCausalLM", "own.model:OwnForCausalLM")
        assert registry.get_supported_archs() == ["OwnForCausalLM"]
        with pytest.raises(ValueError, match="<module>:<class>"):
            registry.register_model("Own", "own.model")

    assert run(register).error is None
    assert "vllm" not in sys.modules


def test_nothing_of_a_process_comes_back() -> None:
    own = HookRegistry()

    @own.hook("on_before_engine_init")
    def put(ctx: CallbackCtx) -> None:
        ctx.custom_data["list"] = [1]

    @own.hook("on_engine_process_start")
    def change(ctx: EngineProcessCtx) -> None:
        ctx.custom_data["list"].append(2)

    found = run(own)
    assert found.ctx is not None
    assert found.ctx.custom_data == {"list": [1]}


def test_a_hook_that_is_too_large_is_refused_before_its_config_is_sent() -> None:
    table = random.Random(0).randbytes(200_000)

    @HookRegistry().hook("on_engine_process_start")
    def look_up(ctx: EngineProcessCtx) -> None:
        assert table

    found = run(look_up)
    assert isinstance(found.error, HookPickleError)
    assert "<locals>.look_up (20" in str(found.error)
    assert len(found.trace) == 0


def test_each_process_has_variables_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_REPLICA", "yes")
    own = HookRegistry()

    @own.hook("on_engine_process_start", roles="worker", on_error="warn")
    def look(ctx: EngineProcessCtx) -> None:
        os.environ["RANK_OF_MINE"] = os.environ.get("RANK_OF_MINE", "") + str(ctx.rank)
        raise LookupError(f"{os.environ['OF_THE_REPLICA']} {os.environ['RANK_OF_MINE']}")

    assert [event.detail for event in run(own).trace] == ["LookupError: yes 0", "LookupError: yes 1"]
    assert "RANK_OF_MINE" not in os.environ


def test_a_fault_in_a_hook_that_is_not_at_this_point_says_which_are() -> None:
    cluster = FakeCluster(faults=[engine_process_dies("core", in_hook="set_pu")])
    with pytest.raises(HarnessError, match=r"'set_pu' .* \(did you mean 'set_up'\?\)\. Its hooks: .*:set_up"):
        run(set_up, cluster=cluster)


@pytest.mark.parametrize(
    ("process", "says"),
    [
        ({"role": "wroker"}, r"did you mean 'worker'\?\): frontend, config, core, worker, inspection"),
        ({"role": None}, "frontend, config, core, worker, inspection"),
        ({"role": "core", "rank": 0}, "only workers have a rank"),
        ({"rank": -1}, "a whole number, 0 or more"),
        ({"rank": "0"}, "a whole number, 0 or more"),
    ],
)
def test_a_context_is_of_a_process_that_there_is(process: dict[str, Any], says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        engine_process_ctx(**process)


@ON_LINUX
def test_an_interrupt_in_a_process_of_its_own_ends_that() -> None:
    def interrupts(ctx: Any) -> None:
        raise KeyboardInterrupt

    registry: Any = HookRegistry()
    registry.hook(POINT, roles="core")(interrupts)
    found = FakeCluster(nodes=1, processes=True).run(FakeLLMConfig("m", hooks=[registry]), check=False)
    assert "interrupts did not end at on_engine_process_start" in str(found.error)


@pytest.mark.parametrize("processes", [False, pytest.param(True, marks=ON_LINUX)])
def test_an_event_loop_that_a_hook_runs_there_goes_with_virtual_time(processes: bool) -> None:
    def fetches(ctx: Any) -> None:
        asyncio.run(asyncio.wait_for(asyncio.sleep(500), timeout=1000))

    registry: Any = HookRegistry()
    registry.hook(POINT, roles="core")(fetches)
    found = FakeCluster(nodes=1, processes=processes).run(FakeLLMConfig("m", hooks=[registry]))
    assert [event.duration_s for event in found.trace] == [500]
