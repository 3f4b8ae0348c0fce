"""Each fault strikes as it says, and looks to a hook's author as it would in production."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    DownloadError,
    HookLoadError,
    HookRegistry,
    NodeCtx,
    NodeInitializationError,
    NodeLostError,
    PlacementGroupError,
    UnknownHookError,
)
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    FakeRun,
    HarnessError,
    HarnessWarning,
    different_path,
    engine_fails,
    failing_download,
    lost_node,
    missing_module,
    replica_dies,
    slow_download,
    unschedulable,
)

if TYPE_CHECKING:
    from collections.abc import Callable


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
    assert (died.error, died.output, died.engine, died.reached) == (None, None, None, "on_after_node_download")


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
        (lambda: FakeCluster(faults=failing_download("node-1")), HarnessError, "is a list"),  # type: ignore[arg-type]  # likewise
        (lambda: slow_download("node-1", -1), HarnessError, "slow_download="),
        (lambda: failing_download("node-1", after_s=-1), HarnessError, "after_s="),
        (lambda: lost_node("node-1", at="on_before_init"), HarnessError, "runs in the replica"),
        (lambda: lost_node("node-0"), HarnessError, "replica_dies"),
        (lambda: replica_dies(at="on_before_node_download"), HarnessError, "lost_node"),
        (lambda: replica_dies(at="on_before_engine"), UnknownHookError, "on_before_engine_init"),  # type: ignore[arg-type]  # likewise
        (lambda: replica_dies(at="on_after_init", times=0), HarnessError, "times="),
        (lambda: missing_module("node-1", "a:b"), HarnessError, "module's name"),
        (lambda: engine_fails(3), HarnessError, "exception or its text"),  # type: ignore[arg-type]  # likewise
    ],
)
def test_faults_that_make_no_sense(make: Callable[[], object], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        make()
