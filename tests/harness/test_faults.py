"""Each fault strikes as it says, and looks to a hook's author as it would in production."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Literal

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    DownloadError,
    HookError,
    HookLoadError,
    HookPickleError,
    HookRegistry,
    NodeCtx,
    NodeInitializationError,
    NodeLostError,
    PlacementGroupError,
    UnknownHookError,
    hook,
)
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    FakePlacementGroup,
    FakeRun,
    HarnessError,
    HarnessWarning,
    assert_ran_on,
    different_path,
    engine_answers_error,
    engine_fails,
    failing_download,
    hook_fails,
    lost_node,
    missing_module,
    node_process_dies,
    replica_dies,
    slow_download,
    unschedulable,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from serve_llm_hooks_testing.faults import Fault


ON_NODES: list[Any] = [
    failing_download,
    lambda node: slow_download(node, 1),
    lambda node: different_path(node, "/x"),
    lost_node,
    lambda node: missing_module(node, "a"),
]


def test_hooks_that_are_written_alike_all_fail() -> None:
    def one() -> Any:
        @hook("on_before_node_download", on_error="warn")
        def fetch(ctx: NodeCtx, size: int = 1) -> None: ...

        return fetch

    hooks = [one(), one(), {"hook": one(), "kwargs": {"size": 2}}]
    run = FakeCluster(nodes=1, faults=[hook_fails("fetch")]).run(FakeLLMConfig("m", hooks=hooks))
    assert [event.outcome for event in run.trace] == ["warned"] * 3


def failed(run: FakeRun, kind: type[Exception]) -> list[str]:
    """The nodes that failed, all with this kind of error."""
    assert isinstance(run.error, NodeInitializationError)
    assert {type(error) for error in run.error.exceptions} == {kind}
    return list(run.error.node_ids)


def test_a_failing_download() -> None:
    run = FakeCluster(nodes=3, faults=[failing_download("node-1")]).run(FakeLLMConfig("m"), check=False)
    assert failed(run, DownloadError) == ["node-1"]
    assert "403" in str(run.error)
    assert "s3://fake-models" in str(run.error)


@pytest.mark.parametrize("error", ["", None, OSError("disk full")])
def test_a_download_fails_whatever_it_says(error: Any) -> None:
    run = FakeCluster(faults=[failing_download("node-1", error)]).run(FakeLLMConfig("m"), check=False)
    assert failed(run, DownloadError) == ["node-1"]
    assert ("disk full" in str(run.error)) is isinstance(error, OSError)


def test_a_hook_that_fails_on_one_node(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    async def check_gpu(ctx: NodeCtx, *, least: int = 1) -> None:
        ctx.custom_data["checked"] = True

    fault = hook_fails("check_gpu", OSError("no GPU found"), node="node-1")
    run = FakeCluster(download_s=0, faults=[fault]).run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert failed(run, HookError) == ["node-1"]
    assert "OSError: no GPU found" in str(run.error)
    assert {event.node_id: event.outcome for event in run.trace} == {
        "node-0": "ok",
        "node-1": "failed",
        "node-2": "ok",
    }
    assert run.unstruck == ()


class Callback:
    """A class of hooks, of which one fails."""

    def on_before_init(self, ctx: CallbackCtx) -> None:
        ctx.custom_data["began"] = True

    def on_before_node_download(self, ctx: NodeCtx) -> None:
        ctx.custom_data["checked"] = True


@pytest.mark.parametrize(
    ("name", "nodes"),
    [("on_before_init", None), (f"{__name__}:Callback.on_before_node_download", ["node-0", "node-1", "node-2"])],
)
def test_a_method_that_fails_everywhere(name: str, nodes: list[str] | None) -> None:
    name = f"{__name__}:Callback.{name}" if ":" not in name else name
    run = FakeCluster(faults=[hook_fails(name)]).run(FakeLLMConfig("m", callback=Callback), check=False)
    if nodes is None:
        assert isinstance(run.error, HookError)
        assert run.ctx is not None
        assert "began" not in run.ctx.custom_data
    else:
        assert failed(run, HookError) == nodes


@pytest.mark.parametrize("name", ["WarmUp", "serve_llm_hooks.recipes:WarmUp", "serve_llm_hooks.recipes.warm_up:WarmUp"])
def test_a_class_stands_for_its_only_hook(name: str) -> None:
    run = FakeCluster(faults=[hook_fails(name, "no")]).run(
        FakeLLMConfig("m", hooks=["serve_llm_hooks.recipes:WarmUp"]), check=False
    )
    assert "WarmUp.on_after_engine_init failed at on_after_engine_init" in str(run.error)
    assert run.unstruck == ()
    assert_ran_on(run, name, node_count=0)


@pytest.mark.filterwarnings("ignore:.*never struck")  # an error comes before
def test_a_class_of_several_hooks_stands_for_none() -> None:
    config = FakeLLMConfig("m", callback=Callback)
    with pytest.raises(HarnessError, match=r"'Callback' is ambiguous: \S*Callback.on_before_init, \S*Callback.on_be"):
        FakeCluster(faults=[hook_fails("Callback")]).run(config)
    with pytest.raises(HarnessError, match="did you mean 'Callback'"):
        FakeCluster(faults=[hook_fails("Calback")]).run(config)


@pytest.mark.parametrize("module", ["", "serve_llm_hooks.recipes:", "serve_llm_hooks.recipes.baked_model:"])
def test_a_method_is_known_by_its_class_also_where_a_config_names_it(module: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    baked = {"hook": "serve_llm_hooks.recipes:BakedModel", "kwargs": {"path": str(tmp_path), "files": ["config.json"]}}
    config = FakeLLMConfig("m", hooks=[baked])
    faults = [hook_fails(f"{module}BakedModel.on_before_node_download", "no disk", node="node-1")]
    run = FakeCluster(faults=faults).run(config, check=False)
    assert "no disk" in str(run.error)
    assert run.unstruck == ()
    died = [node_process_dies("node-1", in_hook=f"{module}BakedModel.on_before_node_download")]
    assert failed(FakeCluster(faults=died).run(config, check=False), NodeLostError) == ["node-1"]


def test_a_hook_that_warns_when_it_fails(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init", on_error="warn")
    def tell(ctx: CallbackCtx) -> None: ...

    run = FakeCluster(faults=[hook_fails("tell")]).run(FakeLLMConfig("m", hooks=[hooks]))
    assert [event.outcome for event in run.trace] == ["warned"]
    assert run.unstruck == ()


@pytest.mark.filterwarnings("ignore:.*never struck")  # the first run does not come to it
def test_a_hook_that_nobody_knows_cannot_fail(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init", model_id="another")
    def begin(ctx: CallbackCtx) -> None: ...

    with pytest.raises(HarnessError, match="did you mean 'begin'"):
        FakeCluster(faults=[hook_fails("begn")]).run(FakeLLMConfig("another", hooks=[hooks]))
    with pytest.warns(HarnessWarning, match="never struck"):
        FakeCluster(faults=[hook_fails("begin")]).run(FakeLLMConfig("m", hooks=[hooks]))


def test_every_error_of_a_run_is_kept(hooks: HookRegistry) -> None:
    lock = threading.Lock()

    @hooks.hook("on_before_init")
    def locked(ctx: CallbackCtx) -> None:
        lock.acquire()

    run = FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert isinstance(run.error, HookPickleError)
    assert "failed with HookPickleError" in repr(run)
    with pytest.raises(HookPickleError, match="'lock'"):
        FakeCluster().run(FakeLLMConfig("m", hooks=[hooks]))


@pytest.mark.filterwarnings("error::serve_llm_hooks_testing.HarnessWarning")
def test_a_warning_that_is_an_error_keeps_the_runs() -> None:
    cluster = FakeCluster(faults=[engine_fails("no"), lost_node("node-1", at="on_before_node_download")])
    with pytest.raises(HarnessWarning, match="never struck") as caught:
        cluster.run(FakeLLMConfig("m", model_source="/m"), check=False)
    assert str(caught.value.__cause__) == "no"


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (hook_fails("fetch", OSError("hunter2"), node="node-1"), "hook_fails('fetch', node='node-1')"),
        (failing_download("node-1", "hunter2"), "failing_download('node-1')"),
        (slow_download("node-1", 5), "slow_download('node-1')"),
        (different_path("node-1", "/hunter2"), "different_path('node-1')"),
        (lost_node("node-1", at="on_after_node_download"), "lost_node('node-1', at='on_after_node_download')"),
        (missing_module("node-1", "acme"), "missing_module('node-1', 'acme')"),
        (engine_answers_error("hunter2"), "engine_answers_error()"),
        (replica_dies(at="on_after_init"), "replica_dies(at='on_after_init')"),
    ],
)
def test_a_fault_is_told_without_what_fails(fault: Fault, text: str) -> None:
    assert str(fault) == text


def test_a_download_that_fails_early_and_the_grace_of_the_others() -> None:
    cluster = FakeCluster(nodes=2, download_s=100, node_grace_s=10, faults=[failing_download("node-1", after_s=5)])
    run = cluster.run(FakeLLMConfig("m"), check=False)
    assert failed(run, DownloadError) == ["node-1"]
    assert run.elapsed_s == 15
    assert run.nodes["node-0"].result is not None
    assert "cancelled" in str(run.nodes["node-0"].result.error)


def test_a_download_that_fails_quietly() -> None:
    run = FakeCluster(faults=[failing_download("node-2", quietly=True)]).run(FakeLLMConfig("m"), check=False)
    assert failed(run, DownloadError) == ["node-2"]
    assert "nothing arrived" in str(run.error)


def test_a_slow_download() -> None:
    cluster = FakeCluster(engine_start_s=0, faults=[slow_download("node-2", 300)])
    assert cluster.run(FakeLLMConfig("m")).elapsed_s == 300


def test_a_download_too_slow() -> None:
    cluster = FakeCluster(node_timeout_s=60, faults=[slow_download("node-2", 300)])
    run = cluster.run(FakeLLMConfig("m"), check=False)
    assert failed(run, NodeLostError) == ["node-2"]
    assert run.elapsed_s == 60


def test_another_path_on_one_node() -> None:
    cluster = FakeCluster(faults=[different_path("node-1", "/scratch")])
    assert cluster.run(FakeLLMConfig("m")).nodes["node-1"].path == "/scratch"
    with pytest.raises(Exception, match="/scratch"):
        cluster.run(FakeLLMConfig("m", engine_kwargs={"tensor_parallel_size": 3}))


def test_a_node_lost_before_anything_runs_there(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None:
        pass

    cluster = FakeCluster(download_s=5, faults=[lost_node("node-1")])
    run = cluster.run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert failed(run, NodeLostError) == ["node-1"]
    assert {event.node_id for event in run.trace} == {"node-0", "node-2"}


@pytest.mark.parametrize(("at", "lost_after_s"), [("on_before_node_download", 5), ("on_after_node_download", 7)])
def test_a_node_lost_at_a_point(hooks: HookRegistry, at: Any, lost_after_s: float) -> None:
    @hooks.hook(at)
    def work(ctx: NodeCtx) -> None:
        pass

    cluster = FakeCluster(nodes=2, download_s=2, faults=[lost_node("node-1", at=at)])
    run = cluster.run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert failed(run, NodeLostError) == ["node-1"]
    assert run.elapsed_s == lost_after_s
    assert {event.node_id for event in run.trace if event.outcome == "ok"} == {"node-0"}


def test_a_node_lost_that_nobody_notices() -> None:
    cluster = FakeCluster(node_timeout_s=600, faults=[lost_node("node-1", noticed_after_s=None)])
    run = cluster.run(FakeLLMConfig("m"), check=False)
    assert failed(run, NodeLostError) == ["node-1"]
    assert "did not answer within 600 s" in str(run.error)
    assert run.elapsed_s == 600


def test_a_module_missing_on_one_node(module: Callable[[str, str], str]) -> None:
    name = module("node_hooks", '@hook("on_before_node_download")\ndef work(ctx): pass')
    cluster = FakeCluster(faults=[missing_module("node-2", name)])
    run = cluster.run(FakeLLMConfig("m", hooks=[name]), check=False)
    assert failed(run, HookLoadError) == ["node-2"]
    assert "runtime_env" in str(run.error)
    assert name in str(run.error)


def test_a_group_that_cannot_be_scheduled() -> None:
    run = FakeCluster(faults=[unschedulable(after_s=90)]).run(FakeLLMConfig("m"), check=False)
    assert isinstance(run.error, PlacementGroupError)
    assert run.elapsed_s == 90


def test_an_engine_that_fails(hooks: HookRegistry) -> None:
    errors: list[str] = []

    @hooks.hook("on_failure")
    def clean_up(ctx: CallbackCtx) -> None:
        errors.append(str(ctx.error))

    cluster = FakeCluster(download_s=1, faults=[engine_fails(MemoryError("no"), after_s=7)])
    run = cluster.run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert isinstance(run.error, MemoryError)
    assert errors == ["no"]
    assert run.elapsed_s == 8
    assert run.engine is None


def test_a_replica_that_dies_and_starts_again(hooks: HookRegistry) -> None:
    calls: list[str] = []

    @hooks.hook("on_before_init")
    def begin(ctx: CallbackCtx) -> None:
        calls.append("begin")
        assert ctx.custom_data == {}  # nothing of the first process is left
        ctx.custom_data["x"] = 1

    @hooks.hook("on_after_download")
    def downloaded(ctx: CallbackCtx) -> None:
        calls.append("downloaded")

    @hooks.hook("on_failure")
    def clean_up(ctx: CallbackCtx) -> None:
        calls.append("on_failure")

    cluster = FakeCluster(download_s=10, engine_start_s=0, faults=[replica_dies(at="on_after_download", restart_s=5)])
    run = cluster.run(FakeLLMConfig("m", hooks=[hooks]))
    assert calls == ["begin", "downloaded"] * 2  # and a killed process runs no on_failure
    assert run.elapsed_s == 25
    assert [[event.name for event in start.trace] for start in run.earlier_starts] == [["begin", "downloaded"]]
    assert run.not_idempotent == ()
    assert "start 1 of 2, which died" in str(run)


@pytest.mark.parametrize("is_async", [True, False])
def test_a_death_leaves_no_line_in_the_trace_and_nothing_to_clean_up(hooks: HookRegistry, is_async: bool) -> None:
    ran: list[str] = []

    def sync(ctx: CallbackCtx) -> None:
        ran.append("hook")

    async def asynchronous(ctx: CallbackCtx) -> None:
        ran.append("hook")
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            ran.append("cancelled")

    @hooks.hook("on_failure")
    def clean_up(ctx: CallbackCtx) -> None:
        ran.append("on_failure")

    hooks.hook("on_before_engine_init", timeout_s=30)(asynchronous if is_async else sync)
    run = FakeCluster(faults=[replica_dies(at="on_before_engine_init")]).run(FakeLLMConfig("m", hooks=[hooks]))
    (died,) = run.earlier_starts
    assert died.ctx is not None
    for trace in (died.trace, died.ctx.trace):
        assert [event.outcome for event in trace] == ["ok"]
    assert ran == ["hook", "hook"]
    assert (died.error, died.output, died.engine, died.reached) == (None, None, None, "on_before_engine_init")


@pytest.mark.parametrize("processes", [False, True])
def test_a_start_that_died_has_reached_the_point_at_which_it_did(processes: bool) -> None:
    cluster = FakeCluster(nodes=1, processes=processes, faults=[replica_dies(at="on_after_download")])
    (died,) = cluster.run(FakeLLMConfig("m", hooks=[])).earlier_starts
    assert died.reached == "on_after_download"


def test_a_replica_that_dies_while_it_cleans_up(hooks: HookRegistry) -> None:
    attempts: list[int] = []

    @hooks.hook("on_before_init")
    def fails_once(ctx: CallbackCtx) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise OSError("disk full")

    run = FakeCluster(faults=[replica_dies(at="on_failure")]).run(FakeLLMConfig("m", hooks=[hooks]))
    assert [[event.outcome for event in start.trace] for start in run.earlier_starts] == [["failed"]]
    assert run.error is None


def test_a_node_that_is_lost_does_not_keep_the_others_from_their_grace(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_node_download")
    async def unpack(ctx: NodeCtx) -> None:
        await asyncio.sleep(8 if ctx.is_local else 1000)

    faults = [lost_node("node-1", at="on_before_node_download", noticed_after_s=25)]
    run = FakeCluster(nodes=3, node_grace_s=10, faults=faults).run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert failed(run, NodeLostError) == ["node-1"]
    assert run.elapsed_s == 35
    assert {event.node_id: event.outcome for event in run.trace} == {"node-0": "ok"}
    assert run.nodes["node-2"].result is not None
    assert "cancelled" in str(run.nodes["node-2"].result.error)


def test_which_hooks_were_not_idempotent(hooks: HookRegistry) -> None:
    made: list[str] = []

    @hooks.hook("on_before_init")
    def make_folder(ctx: CallbackCtx) -> None:
        if made:
            raise FileExistsError("/cache")
        made.append("/cache")

    cluster = FakeCluster(faults=[replica_dies(at="on_before_engine_init")])
    run = cluster.run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert [ref.rpartition(".")[2] for ref in run.not_idempotent] == ["make_folder"]


def test_a_replica_that_dies_again_and_again() -> None:
    run = FakeCluster(faults=[replica_dies(at="on_after_init", times=3)]).run(FakeLLMConfig("m"))
    assert len(run.earlier_starts) == 3
    assert run.elapsed_s == 4 * 50
    run = FakeCluster(faults=[replica_dies(at="on_after_init")] * 3).run(FakeLLMConfig("m"))
    assert len(run.earlier_starts) == 3


def test_a_fault_that_never_strikes_is_told() -> None:
    with pytest.warns(HarnessWarning, match="never struck"):
        run = FakeCluster(faults=[failing_download("node-1")]).run(FakeLLMConfig("m", model_source=None))
    assert len(run.unstruck) == 1


def test_faults_in_an_async_test() -> None:
    cluster = FakeCluster(faults=[engine_fails()])
    with pytest.raises(RuntimeError, match="CUDA out of memory"):
        asyncio.run(cluster.arun(FakeLLMConfig("m")))


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: FakeCluster(nodes=2, faults=[failing_download("node-2")]), HarnessError, "node-0 to node-1"),
        (lambda: FakeCluster(faults=[slow_download("nod-1", 3)]), HarnessError, "did you mean 'node-1'"),
        (lambda: FakeCluster(faults=["node-1"]), HarnessError, "failing_download"),  # type: ignore[list-item]  # the mistake
        (lambda: FakeCluster(faults=failing_download("node-1")), HarnessError, "is a list"),  # type: ignore[arg-type]  # the mistake
        (lambda: slow_download("node-1", -1), HarnessError, "slow_download="),
        (lambda: failing_download("node-1", after_s=-1), HarnessError, "after_s="),
        (lambda: lost_node("node-1", at="on_before_init"), HarnessError, "runs in the replica"),
        (lambda: lost_node("node-0"), HarnessError, "replica_dies"),
        (lambda: replica_dies(at="on_before_node_download"), HarnessError, "lost_node"),
        (lambda: replica_dies(at="on_before_engine"), UnknownHookError, "on_before_engine_init"),  # type: ignore[arg-type]  # the mistake
        (lambda: replica_dies(at="on_after_init", times=0), HarnessError, "times="),
        (lambda: missing_module("node-1", "a:b"), HarnessError, "module's name"),
        (lambda: engine_fails(3), HarnessError, "exception or its text"),  # type: ignore[arg-type]  # the mistake
        *((lambda fault=fault: fault(None), HarnessError, "a node by its id") for fault in ON_NODES),
        *((lambda fault=fault: fault(""), HarnessError, "a node by its id") for fault in ON_NODES),
        (lambda: failing_download("node-1", 403), HarnessError, "exception or its text"),  # type: ignore[arg-type]  # the mistake
        (lambda: failing_download("node-1", quietly="no"), HarnessError, "quietly="),  # type: ignore[arg-type]  # the mistake
        (lambda: different_path("node-1", ""), HarnessError, "a path"),
        (lambda: different_path("node-1", None), HarnessError, "a path"),  # type: ignore[arg-type]  # the mistake
        (lambda: lost_node("node-1", noticed_after_s="5"), HarnessError, "noticed_after_s="),  # type: ignore[arg-type]  # the mistake
        (lambda: missing_module("node-1", ""), HarnessError, "module's name"),
        (lambda: missing_module("node-1", "my company"), HarnessError, "module's name"),
        (lambda: unschedulable(after_s=float("nan")), HarnessError, "after_s="),
        (lambda: engine_fails(ValueError), HarnessError, "exception or its text"),  # type: ignore[arg-type]  # the mistake
        (lambda: engine_answers_error(""), HarnessError, "the error's message"),
        (lambda: engine_answers_error("no", code=200), HarnessError, "code="),
        (lambda: hook_fails("on_before_init"), HarnessError, "a hook by its name"),
        (lambda: hook_fails(""), HarnessError, "a hook's name"),
        (lambda: hook_fails("check", 3), HarnessError, "exception or its text"),  # type: ignore[arg-type]  # the mistake
        (lambda: hook_fails("check", node=""), HarnessError, "a node by its id"),
        (lambda: replica_dies(at="on_after_init", times=True), HarnessError, "times="),
        (lambda: replica_dies(at=None), UnknownHookError, "not a hook point"),  # type: ignore[arg-type]  # the mistake
        (lambda: FakeCluster(faults=[hook_fails("check", node="node-9")]), HarnessError, "node-0 to node-2"),
        (lambda: FakeCluster(own_bundles=[]), HarnessError, "own_bundles="),
        (lambda: FakeCluster(own_bundles=[0, 0]), HarnessError, "each once"),
        (lambda: FakeCluster(own_bundles=["0"]), HarnessError, "own_bundles="),  # type: ignore[list-item]  # the mistake
        (lambda: FakeCluster(more_engine_args="abc"), HarnessError, r"as in more_engine_args=\['abc'\]"),
        (lambda: FakeCluster(more_engine_args=[1]), HarnessError, "list of names"),  # type: ignore[list-item]  # the mistake
        (lambda: FakeCluster(in_group="no"), HarnessError, "in_group= is True or False"),  # type: ignore[arg-type]  # the mistake
        (lambda: FakeCluster(real_sleep_limit_s=1e-9), HarnessError, "would report every hook"),
        (lambda: FakeCluster(engine_check=True), HarnessError, "engine_check="),  # type: ignore[arg-type]  # the mistake
        (lambda: FakeCluster(nodes=[]), HarnessError, "no cluster"),
        (lambda: FakeCluster(nodes=[{"CPU": -1}]), HarnessError, r"nodes\[0\]: 'CPU' is a number, 0 or more"),
        (lambda: FakeCluster(nodes=[8, 8]), HarnessError, "a mapping of resources"),  # type: ignore[list-item]  # the mistake
        (lambda: FakeCluster(nodes=[{"CPU": 8}], group_nodes=1), HarnessError, "group_nodes="),
        (lambda: FakePlacementGroup("node-0"), HarnessError, "a list of nodes"),
        (lambda: FakePlacementGroup([0]), HarnessError, "a list of nodes"),  # type: ignore[list-item]  # the mistake
        (lambda: FakePlacementGroup(["node-0"], bundles=[]), HarnessError, "a bundle for each node"),
    ],
)
def test_faults_that_make_no_sense(make: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize("processes", [False, "nodes", True])
def test_a_fault_on_a_hook_that_nobody_knows_fails_the_test_unchecked_too(
    hooks: HookRegistry, processes: bool | Literal["nodes"]
) -> None:
    @hooks.hook("on_before_init")
    def check_disk(ctx: CallbackCtx) -> None: ...

    cluster = FakeCluster(nodes=1, processes=processes, faults=[hook_fails("chek_disk", OSError())])
    with pytest.raises(HarnessError, match="did you mean 'check_disk'"):
        cluster.run(FakeLLMConfig("m", hooks=[hooks]), check=False)
