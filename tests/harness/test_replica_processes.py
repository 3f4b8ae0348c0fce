"""``FakeCluster(processes=True)``: the replica, each restart of it and each node's work in processes of their own."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import DownloadMode, HookError, HookRegistry
from serve_llm_hooks_testing import (
    DeadlockError,
    FakeCluster,
    FakeLLMConfig,
    HarnessError,
    engine_fails,
    replica_dies,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks import CallbackCtx, NodeCtx
    from serve_llm_hooks_testing import FakeRun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")


def start(*hooks: Any, check: bool = True, **settings: Any) -> FakeRun:
    return FakeCluster(**{"processes": True, **settings}).run(FakeLLMConfig("m", hooks=list(hooks)), check=check)


def custom_data(run: FakeRun) -> dict[str, Any]:
    assert run.ctx is not None
    return run.ctx.custom_data


STATEFUL = """
    import functools, os
    starts = []

    @functools.lru_cache
    def where(): return os.getpid()

    @hook("on_before_init")
    def begin(ctx, kept=[]):
        starts.append(os.getpid())
        kept.append(1)
        ctx.custom_data["told"] = [len(starts), len(kept), where() == os.getpid(), "DONE" in os.environ]
        os.environ["DONE"] = "1"

    @hook("on_before_node_download")
    def on_node(ctx): ctx.custom_data["starts"] = list(starts)
"""


def test_each_start_is_a_process(module: Callable[[str, str], str]) -> None:
    run = start(module("keeps_state", STATEFUL), faults=[replica_dies(at="on_after_download", times=2, restart_s=7)])
    starts = [*run.earlier_starts, run]
    ids = [event.process_id for each in starts for event in each.trace]
    assert len(set(ids)) == len(ids) == 3 * (1 + 3)
    assert os.getpid() not in ids
    for each in starts:
        assert custom_data(each)["told"] == [1, 1, True, False]
        assert each.ctx is not None
        assert [node.custom_data["starts"] for node in each.ctx.nodes.values()] == [[], [], []]
    assert run.elapsed_s == 3 * 20 + 2 * 7 + 30
    assert [each.elapsed_s for each in starts] == [20, 47, 104]
    assert "DONE" not in os.environ


def test_the_replicas_event_loop_is_not_in_the_main_thread(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    async def handle(ctx: CallbackCtx) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    with pytest.raises(HookError, match="signal only works in main thread"):
        start(hooks)


def test_a_run_is_what_it_is_in_one_process(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_engine_init")
    def tune(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["max_model_len"] = 7
        ctx.model_path = "/m"

    @hooks.hook("on_after_engine_init")
    async def ask(ctx: CallbackCtx) -> None:
        await ctx.engine.check_health()
        ctx.custom_data["mode"] = ctx.worker_node_download_model

    run = start(hooks)
    assert run.error is None
    assert run.engine is not None
    assert (run.engine.kwargs, run.engine.model_path) == ({"max_model_len": 7}, "/m")
    assert run.output is not None
    assert run.output.extra_init_kwargs == {"max_model_len": 7}
    assert run.ctx is not None
    assert run.ctx.trace is run.trace
    assert run.ctx.custom_data == {"mode": DownloadMode.MODEL_AND_TOKENIZER}
    assert [hook.name for hook in run.hooks] == ["tune", "ask"]
    with pytest.raises(AttributeError, match="cannot be changed any more"):
        run.ctx.model_path = "/other"


def test_what_the_test_made_comes_back_as_it_is(hooks: HookRegistry) -> None:
    error = OSError("out of memory")
    cluster = FakeCluster(processes=True, faults=[engine_fails(error)])
    with pytest.raises(OSError, match="out of memory") as raised:
        cluster.run(FakeLLMConfig("m", hooks=[hooks]))
    assert raised.value is error
    assert not hasattr(error, "__notes__")
    cluster = FakeCluster(processes=True, nodes=2)
    run = cluster.run(FakeLLMConfig("m", hooks=[hooks]))
    assert run.output is not None
    assert run.output.placement_group is cluster.default_group


class OurError(Exception):
    """An error that pickle cannot make again."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


def test_an_error_has_its_cause_and_its_traceback(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    def breaks(ctx: CallbackCtx) -> None:
        raise OurError(7, "no disk") from OSError("full")

    error = start(hooks, check=False).error
    assert isinstance(error, HookError)
    assert error.hook.endswith("breaks")
    assert str(error.__cause__) == "OurError: no disk (7)"
    assert isinstance(error.__cause__, RuntimeError)
    assert isinstance(error.__cause__.__cause__, OSError)
    (note,) = error.__notes__
    assert note.startswith("In the replica's process:\n")
    assert "in breaks" in note


def test_what_cannot_be_pickled_is_a_placeholder(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init")
    def keep(ctx: CallbackCtx) -> None:
        ctx.custom_data["lock"] = threading.Lock()
        ctx.custom_data["number"] = 3

    data = custom_data(start(hooks))
    assert data["number"] == 3
    assert repr(data["lock"]).startswith(
        "<run.ctx.custom_data['lock'] (lock), which did not leave the replica's process"
    )
    with pytest.raises(HarnessError, match=r"into ctx\.custom_data, as plain data; or leave the replica"):
        data["lock"].acquire()


def test_what_only_the_replica_can_make_is_told(hooks: HookRegistry, tmp_path: Path) -> None:
    (tmp_path / "only_in_the_replica.py").write_text("class Kept: ...")
    folder = str(tmp_path)

    @hooks.hook("on_after_init")
    def keep(ctx: CallbackCtx) -> None:
        sys.path.append(folder)
        import only_in_the_replica  # type: ignore[import-not-found]  # the test writes it

        ctx.custom_data["kept"] = only_in_the_replica.Kept()

    with pytest.raises(HarnessError, match=r"cannot be unpickled in the test's: .*only_in_the_replica"):
        start(hooks)


def test_setup_is_called_in_the_replica_and_its_failure_told(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    def tell(ctx: CallbackCtx) -> None:
        ctx.custom_data["set up"] = os.environ.get("SET_UP")

    def setup() -> None:
        os.environ["SET_UP"] = "yes"

    def wrong() -> None:
        raise OSError("this setup is wrong")

    assert custom_data(start(hooks, setup=setup)) == {"set up": "yes"}
    with pytest.raises(HarnessError, match=r"setup= failed in the replica's process(?s:.*)this setup is wrong"):
        start(hooks, setup=wrong, check=False)


@pytest.mark.parametrize("processes", [True, "nodes", False])
def test_the_variables_of_the_config_are_the_replicas_own_as_on_ray(
    hooks: HookRegistry, monkeypatch: pytest.MonkeyPatch, processes: object
) -> None:
    monkeypatch.setenv("SET_BY", "test")

    @hooks.hook("on_before_init")
    def tell(ctx: CallbackCtx) -> None:
        ctx.custom_data["replica"] = os.environ["SET_BY"]
        ctx.runtime_env = {"env_vars": {"ANOTHER": "1"}}

    @hooks.hook("on_before_node_download")
    def tell_on_node(ctx: NodeCtx) -> None:
        ctx.custom_data["node"] = os.environ["SET_BY"]

    config = FakeLLMConfig("m", hooks=[hooks], runtime_env={"env_vars": {"SET_BY": "config"}})
    run = FakeCluster(nodes=1, processes=processes).run(config)  # type: ignore[arg-type]  # one of the three
    assert custom_data(run)["replica"] == "config"
    assert run.ctx is not None
    assert run.ctx.nodes["node-0"].custom_data["node"] == "config"
    assert os.environ["SET_BY"] == "test"


def test_a_replica_that_dies_by_itself(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_download")
    def give_up(ctx: CallbackCtx) -> None:
        print("giving up")
        os._exit(3)

    run = start(hooks, check=False)
    assert str(run.error) == "the replica's process exited with code 3; Serve would start another"
    assert run.elapsed_s == 20


def test_a_replica_that_hangs(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init")
    async def hang_for_ever(ctx: CallbackCtx) -> None:
        while True:
            pass

    with pytest.raises(HarnessError, match=r"it neither waited nor answered(?s:.*)in hang_for_ever"):
        start(hooks, hang_s=3)


def test_a_start_that_would_hang_says_where(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init")
    async def wait_for_ever(ctx: CallbackCtx) -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match=r"would hang for ever. Waiting: the replica: hook .*wait_for_ever"):
        start(hooks)


def test_a_scripts_own_hooks(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from serve_llm_hooks import hook\n"
        "from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig\n"
        "@hook('on_before_node_download')\n"
        "def mine(ctx): print(ctx.node_id)\n"
        "FakeCluster(nodes=2, processes=True).run(FakeLLMConfig('m'))\n"  # without a main guard
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["node-0", "node-1"], done.stderr


def test_several_at_once(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    async def wait(ctx: NodeCtx) -> None:
        await asyncio.sleep(5)

    async def both() -> list[FakeRun]:
        cluster = FakeCluster(processes=True, nodes=2, engine_start_s=0, download_s=0)
        return await asyncio.gather(*(cluster.arun(FakeLLMConfig(name, hooks=[hooks])) for name in ("a", "b")))

    assert [run.elapsed_s for run in asyncio.run(both())] == [5, 5]


def test_a_replica_that_has_ended_with_its_start_cannot_be_shut_down(hooks: HookRegistry) -> None:
    @hooks.hook("on_shutdown")
    def deregister(ctx: CallbackCtx) -> None: ...

    config = FakeLLMConfig("m", hooks=[hooks])
    run = FakeCluster(processes=True).run(config)
    with pytest.raises(HarnessError, match="processes='nodes'"):
        run.shut_down()
    run = FakeCluster(processes="nodes").run(config)
    assert run.shut_down() == ()
    assert run.trace.events[-1].name == "deregister"


@pytest.mark.parametrize("processes", [False, True])
def test_what_the_engine_has_been_given_cannot_be_changed_after_the_run_either(processes: bool) -> None:
    ctx = FakeCluster(nodes=1, processes=processes).run(FakeLLMConfig("m", hooks=[])).ctx
    assert ctx is not None
    with pytest.raises(AttributeError, match="the engine has been given it"):
        ctx.model_path = "/elsewhere"
    with pytest.raises(TypeError, match="the engine has been given it"):
        ctx.extra_init_kwargs["seed"] = 1
