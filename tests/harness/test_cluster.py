"""A run on a fake cluster: what it tells, and what it keeps apart."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import select
import socket
import sys
import threading
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    DownloadMode,
    EngineArgumentError,
    HookError,
    HookLoadError,
    HookPickleError,
    HookRegistry,
    HookTimeoutError,
    NodeCtx,
    NodeInitializationError,
    PlacementGroupError,
    skip,
)
from serve_llm_hooks_testing import (
    DeadlockError,
    FakeCluster,
    FakeLLMConfig,
    FakePlacementGroup,
    HarnessError,
    HarnessWarning,
    RayInFakeRunError,
    engine_fails,
)
from serve_llm_hooks_testing._simulation.simulated_cluster import SimulatedCluster
from serve_llm_hooks_testing._virtual_time import patience

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks._replica.cluster import Cluster


def test_it_is_a_cluster() -> None:
    cluster: Cluster = SimulatedCluster(FakeCluster(), time.perf_counter)
    assert cluster.local_node_id == "node-0"


def test_a_run_tells_what_happened(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_download")
    def choose(ctx: CallbackCtx) -> None:
        ctx.worker_node_download_model = DownloadMode.TOKENIZER_ONLY
        ctx.local_node_download_model = DownloadMode.MODEL_AND_TOKENIZER

    @hooks.hook("on_before_engine_init")
    def tune(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs |= {"max_model_len": 128, "chat_template": "..."}

    run = FakeCluster(nodes=2, download_s=20, engine_start_s=30).run(
        FakeLLMConfig("m", hooks=[hooks], engine_kwargs={"max_model_len": 4096, "seed": 1})
    )
    assert run.error is None
    assert run.elapsed_s == 50
    assert [event.name for event in run.trace] == ["choose", "tune"]
    assert run.nodes["node-0"].downloaded == [DownloadMode.MODEL_AND_TOKENIZER]
    assert run.nodes["node-1"].downloaded == [DownloadMode.TOKENIZER_ONLY]
    assert run.nodes["node-1"].path == "/models/m"
    assert run.output is not None
    assert run.output.placement_group.node_ids == ("node-0", "node-1")
    assert run.engine is not None
    assert run.engine.kwargs == {"max_model_len": 128, "seed": 1}
    assert run.engine.frontend_kwargs == {"chat_template": "..."}
    assert run.engine.model_path == "/models/m"
    assert run.ctx is not None
    assert run.ctx.engine is not None
    assert "succeeded, after 50 s" in str(run)
    assert "on_before_engine_init" in str(run)


def test_it_takes_no_real_time() -> None:
    started_s = time.perf_counter()
    FakeCluster(nodes=8, download_s=3600, engine_start_s=3600, node_timeout_s=1e5).run(FakeLLMConfig("m"))
    assert time.perf_counter() - started_s < 60  # on whatever machine


def test_async_hooks_sleep_virtually_and_nodes_at_the_same_time(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    async def warm(ctx: NodeCtx) -> None:
        await asyncio.sleep(10)

    run = FakeCluster(nodes=4, download_s=20, engine_start_s=0).run(FakeLLMConfig("m", hooks=[hooks]))
    assert run.elapsed_s == 30
    assert {event.duration_s for event in run.trace} == {10}


def test_the_replica_is_the_tests_own_process_and_nodes_are_others(hooks: HookRegistry) -> None:
    seen: list[str] = []

    @hooks.hook("on_before_init")
    def here(ctx: CallbackCtx) -> None:
        seen.append("here")
        ctx.custom_data["list"] = ["from the replica"]

    @hooks.hook("on_before_node_download")
    def there(ctx: NodeCtx) -> None:
        seen.append("there")  # a copy: this function has travelled
        ctx.custom_data["list"].append(ctx.node_id)

    run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[hooks]))
    assert seen == ["here"]
    assert run.ctx is not None
    assert run.ctx.custom_data == {"list": ["from the replica"]}
    assert run.ctx.nodes["node-0"].custom_data == {"list": ["from the replica", "node-0"]}
    assert run.ctx.nodes["node-1"].custom_data == {"list": ["from the replica", "node-1"]}
    processes = {(event.node_id, event.process_id) for event in run.trace}
    assert len(processes) == 3
    assert ("node-0", os.getpid()) in processes


def test_context_variables_do_not_reach_nodes(hooks: HookRegistry, module: Callable[[str, str], str]) -> None:
    name = module(
        "vars_hooks",
        """
        import contextvars
        VAR = contextvars.ContextVar("VAR", default="unset")

        @hook("on_before_node_download")
        def look(ctx):
            ctx.custom_data["var"] = VAR.get()
        """,
    )
    import vars_hooks  # type: ignore[import-not-found]  # written just now

    vars_hooks.VAR.set("set in the replica")
    run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[name]))
    assert run.nodes["node-0"].result is not None
    assert run.nodes["node-0"].result.custom_data == {"var": "unset"}


def test_a_hook_that_cannot_travel_fails_as_in_production(hooks: HookRegistry) -> None:
    lock = threading.Lock()

    @hooks.hook("on_before_node_download")
    def locked(ctx: NodeCtx) -> None:
        lock.acquire()

    with pytest.raises(HookPickleError, match="lock"):
        FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]))


def test_the_config_is_checked_to_travel() -> None:
    with pytest.raises(HookPickleError, match="config of model 'm' cannot be sent"):
        FakeCluster().run(FakeLLMConfig("m", engine_kwargs={"x": threading.Lock()}))


def test_parameters_may_be_given_beside_the_hooks_module(module: Callable[[str, str], str]) -> None:
    name = module("shop_hooks", '@hook("on_before_init")\ndef fetch(ctx, *, bucket): ctx.custom_data["b"] = bucket')
    given: dict[str, Any] = {"hook": f"{name}:fetch", "kwargs": {"bucket": "s3://b"}}
    run = FakeCluster().run(FakeLLMConfig("m", hooks=[import_module(name), given]))
    assert [event.outcome for event in run.trace] == ["ok"]


def test_the_tests_config_stays_as_it_was(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_engine_init")
    def tune(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["max_model_len"] = 128

    @hooks.hook("on_after_engine_init")
    def see(ctx: CallbackCtx) -> None:
        assert ctx.llm_config.engine_kwargs == {"max_model_len": 128}

    config = FakeLLMConfig("m", hooks=[hooks])
    FakeCluster().run(config)
    FakeCluster().run(config)
    assert config.engine_kwargs == {}


def test_run_raises_and_check_keeps(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_download")
    def breaks(ctx: CallbackCtx) -> None:
        raise OSError("disk full")

    cluster, config = FakeCluster(), FakeLLMConfig("m", hooks=[hooks])
    with pytest.raises(HookError, match="disk full"):
        cluster.run(config)
    run = cluster.run(config, check=False)
    assert isinstance(run.error, HookError)
    assert run.output is None
    assert run.engine is None
    assert [event.outcome for event in run.trace] == ["failed"]
    assert "failed: HookError" in str(run)


def test_hooks_that_cannot_be_loaded_are_told_with_the_config() -> None:
    with pytest.raises(HookLoadError, match="no_such_hooks"):
        FakeLLMConfig("m", hooks=["no_such_hooks"])
    with pytest.raises(HookLoadError, match="is a list"):
        FakeLLMConfig("m", hooks="my_hooks")


@pytest.mark.parametrize(
    ("arguments", "says"), [({"model_id": ""}, "model_id"), ({"model_id": "m", "on_error": "ignore"}, "on_error=")]
)
def test_configs_that_make_no_sense(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FakeLLMConfig(**arguments)


def test_on_error_of_the_config(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    def breaks(ctx: CallbackCtx) -> None:
        raise OSError("disk full")

    run = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks], on_error="warn"))
    assert [event.outcome for event in run.trace] == ["warned"]


def test_a_node_keeps_one_thread_for_its_sync_hooks(module: Callable[[str, str], str]) -> None:
    name = module(
        "thread_hooks",
        """
        import threading
        @hook("on_before_node_download")
        def before(ctx): ctx.custom_data["thread"] = threading.get_ident()
        @hook("on_after_node_download")
        def after(ctx): assert ctx.custom_data["thread"] == threading.get_ident()
        """,
    )
    run = FakeCluster(nodes=20).run(FakeLLMConfig("m", hooks=[name]))
    threads = {node.result.custom_data["thread"] for node in run.nodes.values() if node.result is not None}
    assert len(threads) == 20
    assert threading.get_ident() not in threads


def test_hundreds_of_nodes_do_with_few_threads(module: Callable[[str, str], str]) -> None:
    name = module("many_hooks", '@hook("on_before_node_download")\ndef one(ctx): pass')
    before = threading.active_count()
    run = FakeCluster(nodes=300).run(FakeLLMConfig("m", hooks=[name]))
    assert len(run.trace) == 300
    assert threading.active_count() - before <= 64


@pytest.mark.parametrize(
    ("source", "path", "downloads"),
    [
        ("s3://bucket/m", "/models/m", 1),
        ("meta-llama/Llama-2-7b", "meta-llama/Llama-2-7b", 0),
        (None, "m", 0),
        ({"bucket_uri": "gs://b"}, "/models/m", 1),
    ],
)
def test_model_sources_mean_what_they_do_in_ray(source: Any, path: str, downloads: int) -> None:
    run = FakeCluster(nodes=1).run(FakeLLMConfig("m", model_source=source))
    assert run.engine is not None
    assert run.engine.model_path == path
    assert len(run.nodes["node-0"].downloaded) == downloads


def test_streaming_load_formats_download_no_model() -> None:
    run = FakeCluster().run(FakeLLMConfig("m", engine_kwargs={"load_format": "runai_streamer"}))
    assert run.nodes["node-0"].downloaded == []


def test_a_vetoed_download_touches_no_node(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_download")
    def baked_in(ctx: CallbackCtx) -> Any:
        ctx.model_path = "/opt/m"
        return skip("baked in")

    run = FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[hooks]))
    assert [node.tasks for node in run.nodes.values()] == [0, 0]
    assert run.engine is not None
    assert run.engine.model_path == "/opt/m"
    assert run.elapsed_s == 30


def test_a_replaced_placement_group_is_used(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_placement_group")
    def bigger(ctx: CallbackCtx) -> None:
        ctx.placement_group = FakePlacementGroup(["node-0", "node-3"])

    run = FakeCluster(nodes=4, group_nodes=2).run(FakeLLMConfig("m", hooks=[hooks]))
    assert [node.tasks for node in run.nodes.values()] == [1, 1, 0, 1]
    assert run.engine is not None
    assert run.engine.placement_group.node_ids == ("node-0", "node-3")


def test_a_group_of_one_node_is_a_list_too() -> None:
    with pytest.raises(HarnessError, match=r"takes a list of nodes, as in \['node-1'\], not 'node-1'$"):
        FakePlacementGroup("node-1")


def test_a_group_on_nodes_that_are_not_there(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    def elsewhere(ctx: CallbackCtx) -> None:
        ctx.placement_group = FakePlacementGroup(["node-7"])

    with pytest.raises(PlacementGroupError, match="node-7"):
        FakeCluster(nodes=2).run(FakeLLMConfig("m", hooks=[hooks]))


def test_a_group_that_is_not_fake(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    def real(ctx: CallbackCtx) -> None:
        ctx.placement_group = object()

    with pytest.raises(HarnessError, match="FakePlacementGroup"):
        FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]))


def test_an_engine_argument_that_production_refuses(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_engine_init")
    def rename(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["model"] = "other"

    with pytest.raises(EngineArgumentError, match="model_path"):
        FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]))


def test_on_failure_and_the_error_it_sees(hooks: HookRegistry) -> None:
    errors: list[Exception | None] = []

    @hooks.hook("on_before_engine_init")
    def breaks(ctx: CallbackCtx) -> None:
        raise ValueError("no")

    @hooks.hook("on_failure")
    def clean_up(ctx: CallbackCtx) -> None:
        errors.append(ctx.error)

    run = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert errors == [run.error]


def test_two_models_at_once_in_one_process(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init", model_id="a")
    async def only_a(ctx: CallbackCtx) -> None:
        await asyncio.sleep(5)

    @hooks.hook("on_before_init", model_id="b")
    async def only_b(ctx: CallbackCtx) -> None:
        await asyncio.sleep(7)

    async def both() -> list[Any]:
        cluster = FakeCluster()
        return await asyncio.gather(*(cluster.arun(FakeLLMConfig(model, hooks=[hooks])) for model in "ab"))

    a, b = asyncio.run(both())
    assert ([event.name for event in a.trace], a.elapsed_s) == (["only_a"], 55)
    assert ([event.name for event in b.trace], b.elapsed_s) == (["only_b"], 57)


def test_run_inside_a_loop_says_arun() -> None:
    async def inside() -> None:
        FakeCluster().run(FakeLLMConfig("m"))

    with pytest.raises(HarnessError, match=r"await cluster\.arun"):
        asyncio.run(inside())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"nodes": 0}, "nodes="),
        ({"nodes": -1}, "nodes="),
        ({"nodes": True}, "nodes="),
        ({"group_nodes": 9}, "does not fit"),
        ({"group_nodes": 0}, "group_nodes="),
        ({"download_s": -1}, "download_s="),
        ({"engine_start_s": -0.1}, "engine_start_s="),
        ({"download_s": "20"}, "download_s="),
        ({"real_sleep_limit_s": 0}, "real_sleep_limit_s="),
        ({"node_timeout_s": float("nan")}, "node_timeout_s is a positive number"),
        ({"node_timeout_s": 0}, "node_timeout_s is a positive number"),
        ({"node_grace_s": "5"}, "node_grace_s is a number of seconds, 0 or more"),
        ({"node_timeout_s": 10**400}, "node_timeout_s is a .*, at most 1e12, as in 600, not a larger one"),
        ({"node_grace_s": 1e300}, "node_grace_s is a .*, at most 1e12"),
        ({"download_s": 10**400}, "download_s= is a .*, at most 1e12, as in 600, not a larger one"),
        ({"real_sleep_limit_s": float("inf")}, "real_sleep_limit_s= is a .*, at most 1e12, as in 600, not inf"),
    ],
)
def test_clusters_that_make_no_sense(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(HarnessError, match=says):
        FakeCluster(**arguments)


# -- what a hook must not do ----------------------------------------------------------------------------------------


def test_a_hook_that_really_sleeps_is_named(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    def sleeper(ctx: CallbackCtx) -> None:
        select.select([], [], [], 1)  # long enough to be seen on a busy machine

    with pytest.warns(HarnessWarning, match="sleeper.*really blocks"):
        run = FakeCluster(real_sleep_limit_s=0.2).run(FakeLLMConfig("m", hooks=[hooks]))
    assert run.error is None
    assert "sleeper" in run.notes[0]


@pytest.mark.parametrize("is_async", [False, True])
def test_what_takes_long_to_import_is_waited_for(
    hooks: HookRegistry, module: Callable[[str, str], str], is_async: bool
) -> None:
    module("slow_model_code", "import select\nselect.select([], [], [], 0.4)\nMAX_LEN = 128")

    def imports(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["max_model_len"] = import_module("slow_model_code").MAX_LEN

    async def in_a_thread(ctx: CallbackCtx) -> None:
        await asyncio.to_thread(imports, ctx)

    hooks.hook("on_before_init")(in_a_thread if is_async else imports)
    run = FakeCluster(real_sleep_limit_s=0.02).run(FakeLLMConfig("m", hooks=[hooks]))
    assert run.engine is not None
    assert run.engine.kwargs["max_model_len"] == 128
    assert run.notes == ()


def test_an_import_that_does_not_end_is_told_with_its_line(
    hooks: HookRegistry, module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module("hanging_model_code", "import select\nselect.select([], [], [], 0.4)")
    monkeypatch.setattr(patience, "LONGEST_IMPORT_S", 0.01)

    @hooks.hook("on_before_init")
    def imports(ctx: CallbackCtx) -> None:
        import_module("hanging_model_code")

    with pytest.warns(HarnessWarning, match=r"hook tests.*imports \(at .*cluster\.py:\d+ in imports\) really blocks"):
        FakeCluster(real_sleep_limit_s=0.02).run(FakeLLMConfig("m", hooks=[hooks]), check=False)


def test_its_timeout_fires_as_in_production(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init", timeout_s=3)
    def hangs(ctx: CallbackCtx) -> None:
        select.select([], [], [], 10)  # nobody waits for it; a busy machine may need seconds to give it up

    with pytest.warns(HarnessWarning, match="hangs"), pytest.raises(HookTimeoutError, match="timeout_s=3"):
        FakeCluster(real_sleep_limit_s=0.02).run(FakeLLMConfig("m", hooks=[hooks]))


def test_an_async_hook_that_blocks_the_loop_is_named(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    async def blocker(ctx: CallbackCtx) -> None:
        select.select([], [], [], 1)  # long enough to be seen on a busy machine

    with pytest.warns(HarnessWarning, match="blocker.*blocks the event loop"):
        FakeCluster(real_sleep_limit_s=0.05).run(FakeLLMConfig("m", hooks=[hooks]))


def test_an_answer_that_is_only_slow_is_no_timeout_without_a_word(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init", timeout_s=30)
    async def asks(ctx: CallbackCtx) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with ours, theirs:
            await asyncio.get_running_loop().sock_recv(ours, 1)

    with (
        pytest.raises(HookTimeoutError, match="timeout_s=30"),
        pytest.warns(HarnessWarning, match=r"asks .*: the clock went on without an answer"),
    ):
        FakeCluster(real_sleep_limit_s=0.05).run(FakeLLMConfig("m", hooks=[hooks]))


def test_an_error_is_the_hooks_own_and_nothing_before_it(hooks: HookRegistry) -> None:
    seen: list[BaseException | None] = []

    @hooks.hook("on_before_init")
    async def look(ctx: CallbackCtx) -> None:
        seen.append(sys.exc_info()[1])

    @hooks.hook("on_before_node_download")
    async def full(ctx: NodeCtx) -> None:
        raise OSError("disk is full")

    run = FakeCluster(1).run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert seen == [None]
    assert isinstance(run.error, NodeInitializationError)
    (error,) = run.error.exceptions
    assert not any("no running event loop" in note for note in error.__notes__)


@pytest.mark.filterwarnings("error::serve_llm_hooks_testing.HarnessWarning")
def test_a_warning_that_is_an_error_does_not_replace_the_starts_own(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    def fails(ctx: CallbackCtx) -> None:
        raise OSError("disk is full")

    with pytest.raises(HookError, match="disk is full"):
        FakeCluster(faults=[engine_fails()]).run(FakeLLMConfig("m", hooks=[hooks]))


@pytest.mark.parametrize("in_group", [True, False])
def test_the_replica_is_in_its_group_as_under_serve_or_not(in_group: bool, hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    def look(ctx: CallbackCtx) -> None:
        assert (ctx.placement_group is not None) == in_group

    run = FakeCluster(nodes=2, in_group=in_group).run(FakeLLMConfig("m", hooks=[hooks]))
    assert run.output is not None
    assert run.output.placement_group.node_ids == ("node-0", "node-1")


def test_the_placement_group_is_waited_for_once(hooks: HookRegistry) -> None:
    run = FakeCluster(placement_group_s=10, download_s=20, engine_start_s=30).run(FakeLLMConfig("m", hooks=[hooks]))
    assert run.elapsed_s == 10 + 20 + 30


def test_many_quick_hooks_are_no_slow_one(module: Callable[[str, str], str]) -> None:
    name = module("quick_hooks", '@hook("on_before_node_download")\nasync def quick(ctx): pass')
    run = FakeCluster(nodes=300, real_sleep_limit_s=0.03).run(FakeLLMConfig("m", hooks=[name]))
    assert run.notes == ()


_ends: list[socket.socket] = []


def listen() -> None:
    """A function of the module: it travels by reference, which a socket cannot."""
    _ends[0].recv(1)


def test_a_thread_left_behind_at_work_is_named(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init")
    def subscribe(ctx: CallbackCtx) -> None:
        threading.Thread(target=listen, name="listens", daemon=True).start()

    _ends[:] = socket.socketpair()
    with _ends[0], _ends[1]:
        try:
            with pytest.warns(HarnessWarning, match="subscribe.*left a thread behind: 'listens' is still at work"):
                FakeCluster(real_sleep_limit_s=0.02).run(FakeLLMConfig("m", hooks=[hooks]))
        finally:
            _ends[1].send(b"x")


def test_no_thread_of_ours_stays_at_work(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None:
        pass

    FakeCluster(nodes=3).run(FakeLLMConfig("m", hooks=[hooks]))
    before = set(threading.enumerate())
    for _ in range(5):
        FakeCluster(nodes=3).run(FakeLLMConfig("m", hooks=[hooks]))
    assert set(threading.enumerate()) <= before  # those of earlier tests may end meanwhile


def test_a_start_that_would_hang_for_ever(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    async def waits(ctx: CallbackCtx) -> None:
        await asyncio.Event().wait()

    run = FakeCluster(real_sleep_limit_s=0.02).run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert isinstance(run.error, DeadlockError)
    assert "waits" in str(run.error)


def test_ray_init_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hooks: HookRegistry) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "ray"]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "ray.py").write_text("def init(*args, **kwargs): return 'started'\n")

    @hooks.hook("on_before_init")
    def starts_ray(ctx: CallbackCtx) -> None:
        import ray

        ray.init(address="auto")

    for _ in range(2):  # imported in the middle of the run; imported before it
        run = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]), check=False)
        assert isinstance(run.error, HookError)
        assert isinstance(run.error.__cause__, RayInFakeRunError)
        assert "starts_ray" in str(run.error.__cause__)
    assert sys.modules["ray"].init() == "started"
    del sys.modules["ray"]  # not by monkeypatch, which would put it back


def test_errors_of_nodes_come_as_one_group(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def picky(ctx: NodeCtx) -> None:
        if not ctx.is_local:
            raise OSError(f"no disk on {ctx.node_id}")

    with pytest.raises(NodeInitializationError, match="2 nodes") as failure:
        FakeCluster(nodes=3).run(FakeLLMConfig("m", hooks=[hooks]))
    assert failure.value.node_ids == ("node-1", "node-2")


def test_an_argument_that_vllm_does_not_know_is_refused(hooks: HookRegistry) -> None:
    with pytest.raises(ValueError, match="Unknown engine argument: newest_thing"):
        FakeCluster().run(FakeLLMConfig("m", engine_kwargs={"newest_thing": 1}))

    @hooks.hook("on_before_engine_init")
    def tune(ctx: CallbackCtx) -> None:
        ctx.extra_init_kwargs["newest_flag"] = True

    with pytest.raises(EngineArgumentError, match=r"'newest_flag'.* is no argument of the engine"):
        FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]))

    cluster = FakeCluster(more_engine_args=["newest_thing", "newest_flag"])
    run = cluster.run(FakeLLMConfig("m", hooks=[hooks], engine_kwargs={"newest_thing": 1}))
    assert run.engine is not None
    assert run.engine.kwargs == {"newest_thing": 1, "newest_flag": True}


def test_a_run_leaves_the_garbage_collector_as_it_was(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    async def look(ctx: CallbackCtx) -> None:
        ctx.custom_data["thresholds"] = gc.get_threshold()

    before = gc.get_threshold()
    run = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]))
    assert run.ctx is not None
    seen = run.ctx.custom_data["thresholds"]
    assert seen[:2] == before[:2]
    assert seen[2] > before[2]
    assert gc.get_threshold() == before


def test_a_config_whose_hooks_are_for_another_model_says_so(caplog: pytest.LogCaptureFixture) -> None:
    hooks = HookRegistry()

    @hooks.hook("on_before_init", model_id="qwen/*")
    def setup(ctx: CallbackCtx) -> None: ...

    def warnings() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.levelno >= logging.WARNING]

    config = FakeLLMConfig("Qwen/Qwen3-8B", hooks=[hooks])
    (record,) = warnings()
    assert "setup at on_before_init (model_id='qwen/*', which differs from 'Qwen/Qwen3-8B'" in record.getMessage()
    assert not list(FakeCluster().run(config).trace)
    assert len(warnings()) == 1


def test_a_clean_up_that_hangs_does_not_hide_why_the_start_failed(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    def breaks(ctx: CallbackCtx) -> None:
        raise OSError("the first")

    @hooks.hook("on_failure")
    async def hangs(ctx: CallbackCtx) -> None:
        await asyncio.Event().wait()

    run = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert isinstance(run.error, DeadlockError)
    assert isinstance(run.error.__cause__, HookError)
    assert isinstance(run.error.__cause__.__cause__, OSError)
