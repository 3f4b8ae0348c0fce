"""A start that fails: which error, what it says, and who is told."""

from __future__ import annotations

import asyncio
import logging
import pickle
import threading
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    DownloadError,
    DownloadMode,
    EngineArgumentError,
    HookError,
    HookOrderError,
    HookResultError,
    HookTimeoutError,
    NodeCtx,
    NodeInitializationError,
    NodeLostError,
    NodeResult,
    ServeLLMHooksError,
    hook,
    initialization,
)
from serve_llm_hooks._core.messages import one_line
from tests.unit.stub import Config, Failed, StubCluster, cancel, cancel_this_task, run, start
from tests.unit.unreadable import HOSTILE, UnreadableError, deep, shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks._node.task import NodeReport, NodeTask

HERE = __name__


def local(test: Callable[..., object], name: str) -> str:
    """Return the name that messages have for a function that a test defines inside itself."""
    return f"{HERE}:{test.__name__}.<locals>.{name}"


# -- hooks on nodes -----------------------------------------------------------------------------------------------


def test_one_node_of_three() -> None:
    @hook("on_after_node_download")
    def unpack(ctx: NodeCtx) -> None:
        if ctx.node_id == "n1":
            raise ValueError("disk is\nfull")

    failed = Failed()
    with pytest.raises(NodeInitializationError) as caught:
        start(unpack, failed.hook())
    ref = local(test_one_node_of_three, "unpack")
    line = f"hook {ref} failed at on_after_node_download for model 'm' on node n1: ValueError: disk is full"
    assert str(caught.value) == f"1 node of model 'm' could not be initialized:\n  node n1: HookError: {line}"
    assert caught.value.node_ids == ("n1",)

    (error,) = caught.value.exceptions
    assert isinstance(error, HookError)
    assert str(error) == line
    assert (error.hook, error.point, error.model_id, error.node_id) == (ref, "on_after_node_download", "m", "n1")
    assert error.remote_traceback is not None
    assert 'raise ValueError("disk is\\nfull")' in error.remote_traceback
    assert "HookError" not in error.remote_traceback  # the hook's own, and not ours around it
    # What a reader of the log sees, wherever the group has travelled.
    shown = "".join(traceback.format_exception(pickle.loads(pickle.dumps(caught.value))))
    assert "Traceback on node n1:" in shown
    assert 'raise ValueError("disk is\\nfull")' in shown

    assert failed.error is caught.value
    assert {node_id: (one.path, one.error) for node_id, one in failed.nodes.items()} == {
        "n0": ("/models/m", None),
        "n1": ("/models/m", line),
        "n2": ("/models/m", None),
    }
    assert failed.ctx is not None
    assert [event.node_id for event in failed.ctx.trace if event.outcome == "failed"] == ["n1"]


def test_two_nodes_are_both_in_the_one_group() -> None:
    @hook("on_before_node_download")
    def check(ctx: NodeCtx) -> Any:
        if ctx.node_id == "n0":
            raise OSError("no GPU")
        return "yes" if ctx.node_id == "n2" else None

    with pytest.raises(NodeInitializationError) as caught:
        start(check)
    ref = local(test_two_nodes_are_both_in_the_one_group, "check")
    failed = f"hook {ref} failed at on_before_node_download for model 'm'"
    why = (
        "it returned a str; a hook at on_before_node_download returns None or True to go on, False or skip('why') to "
        "veto"
    )
    assert str(caught.value).splitlines() == [
        "2 nodes of model 'm' could not be initialized:",
        f"  node n0: HookError: {failed} on node n0: OSError: no GPU",
        f"  node n2: HookResultError: {failed} on node n2: {why}",
    ]
    assert [type(error) for error in caught.value.exceptions] == [HookError, HookResultError]
    assert caught.value.split(HookResultError)[0] is not None


class Unpicklable(Exception):
    """An exception that holds what no other process can be given."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.lock = threading.Lock()


def test_an_exception_that_cannot_be_pickled_comes_as_text() -> None:
    @hook("on_before_node_download")
    def check(ctx: NodeCtx) -> None:
        raise Unpicklable("the store said no")

    with pytest.raises(NodeInitializationError) as caught:
        start(check, cluster=StubCluster(("n1",)))
    (error,) = caught.value.exceptions
    assert isinstance(error, HookError)
    assert str(error).endswith("on node n1: Unpicklable: the store said no")
    assert 'raise Unpicklable("the store said no")' in str(error.remote_traceback)


def test_a_hook_on_a_node_that_takes_too_long() -> None:
    @hook("on_before_node_download", timeout_s=2)
    async def check(ctx: NodeCtx) -> None:
        await asyncio.sleep(3600)

    with pytest.raises(NodeInitializationError) as caught:
        start(check, cluster=StubCluster(("n1",)))
    (error,) = caught.value.exceptions
    assert isinstance(error, HookTimeoutError)
    assert str(error).endswith(
        "check failed at on_before_node_download for model 'm' on node n1: still running after timeout_s=2"
    )


@pytest.mark.parametrize("where", ["hook", "config"])
def test_with_warn_a_nodes_failing_hook_is_in_its_trace_and_the_start_goes_on(where: str) -> None:
    @hook("on_before_node_download", on_error="warn" if where == "hook" else None)
    def check(ctx: NodeCtx) -> None:
        raise ValueError("no GPU")

    started = start(check, cluster=StubCluster(("n1",), on_error="warn" if where == "config" else "raise"))
    assert [(event.outcome, event.detail) for event in started.ctx.trace] == [("warned", "ValueError: no GPU")]
    assert started.ctx.nodes["n1"].path == "/models/m"


# -- hooks in the replica -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "point",
    [
        "on_before_init",
        "on_before_download",
        "on_after_download",
        "on_after_placement_group",
        "on_before_engine_init",
        "on_after_engine_init",
        "on_after_init",
    ],
)
def test_a_failing_hook_ends_the_start_and_on_failure_is_told(point: Any) -> None:
    @hook(point)
    def fails(ctx: CallbackCtx) -> None:
        raise ValueError("no token")

    failed = Failed()
    with pytest.raises(HookError) as caught:
        start(fails, failed.hook())
    ref = local(test_a_failing_hook_ends_the_start_and_on_failure_is_told, "fails")
    assert str(caught.value) == f"hook {ref} failed at {point} for model 'm': ValueError: no token"
    assert isinstance(caught.value.__cause__, ValueError)
    assert failed.error is caught.value
    assert failed.ctx is not None
    assert [event.name for event in failed.ctx.trace][-2:] == ["fails", "keep"]


def test_what_the_engine_raises_comes_out_unchanged() -> None:
    class NoMemory(Exception):
        pass

    error = NoMemory("no GPU memory")
    failed = Failed()

    async def main() -> None:
        async with initialization(Config(hooks=[failed.hook()]), cluster=StubCluster()):
            raise error

    with pytest.raises(NoMemory) as caught:
        run(main())
    assert caught.value is error
    assert failed.error is error
    assert len(failed.nodes) == 3


def test_an_argument_that_the_engine_cannot_be_given_is_a_failure_too() -> None:
    class Strict(StubCluster):
        def configure_engine(self, llm_config: Any, ctx: CallbackCtx, *, path_by_hook: bool) -> None:
            raise EngineArgumentError("no such argument")

    failed = Failed()
    with pytest.raises(EngineArgumentError):
        start(failed.hook(), cluster=Strict())
    assert isinstance(failed.error, EngineArgumentError)


def test_on_failures_own_failures_are_logged_and_the_first_error_is_raised(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    @hook("on_before_init")
    def fails(ctx: CallbackCtx) -> None:
        raise ValueError("the first")

    @hook("on_failure")
    def clean_up(ctx: CallbackCtx) -> None:
        raise ValueError("the second")

    @hook("on_failure")
    async def count(ctx: CallbackCtx) -> None:
        seen.append("counted")

    with pytest.raises(HookError, match="ValueError: the first"):
        start(fails, clean_up, count)
    assert seen == ["counted"]
    this = test_on_failures_own_failures_are_logged_and_the_first_error_is_raised
    first = f"hook {local(this, 'fails')} failed at on_before_init for model 'm': ValueError: the first"
    second = f"hook {local(this, 'clean_up')} failed at on_failure for model 'm': ValueError: the second"
    assert caplog.messages == [
        f"model 'm': the start failed: HookError: {first}",
        f"{second} (the first error is raised)",
    ]


def test_a_good_start_has_no_failure() -> None:
    failed = Failed()
    start(failed.hook())
    assert failed.ctx is None


def test_an_impossible_order_ends_the_start_before_it_has_begun() -> None:
    cluster = StubCluster()

    @hook("on_after_init", after="b")
    def a(ctx: CallbackCtx) -> None: ...

    @hook("on_after_init", after="a")
    def b(ctx: CallbackCtx) -> None: ...

    with pytest.raises(HookOrderError):
        start(a, b, cluster=cluster)
    assert cluster.calls == []


# -- nodes that do not answer -------------------------------------------------------------------------------------


async def silence(task: NodeTask) -> NodeReport:
    await asyncio.sleep(10**6)
    raise AssertionError


def test_a_node_that_never_answers_ends_in_an_error_that_names_it() -> None:
    cluster = StubCluster(answers={"n0": silence, "n2": silence}, node_timeout_s=100)
    failed = Failed()
    with pytest.raises(NodeInitializationError) as caught:
        start(failed.hook(), cluster=cluster)
    why = (
        "did not answer within 100 s; its task was cancelled. Is the node up, and does the download need longer? "
        "The limit is SERVE_LLM_HOOKS_NODE_TIMEOUT_S."
    )
    assert str(caught.value).splitlines() == [
        "2 nodes of model 'm' could not be initialized:",
        f"  node n0: NodeLostError: node n0 {why}",
        f"  node n2: NodeLostError: node n2 {why}",
    ]
    assert failed.nodes["n0"] == NodeResult("n0", is_local=True, error=f"NodeLostError: node n0 {why}")
    assert failed.nodes["n1"].error is None


def test_when_a_node_has_failed_the_others_get_their_grace_and_are_cancelled() -> None:
    cancelled: list[tuple[str, float]] = []

    async def waits(task: NodeTask) -> NodeReport:
        try:
            return await silence(task)
        finally:
            cancelled.append((task.node_id, asyncio.get_running_loop().time()))

    async def fails(task: NodeTask) -> NodeReport:
        await asyncio.sleep(5)
        raise NodeLostError("node n1 is gone", node_id="n1")

    failed = Failed()
    with pytest.raises(NodeInitializationError) as caught:
        start(failed.hook(), cluster=StubCluster(answers={"n0": waits, "n1": fails, "n2": waits}, node_grace_s=20))
    # Only what went wrong is in the error: the cancelled ones did nothing wrong.
    assert str(caught.value).splitlines()[1:] == ["  node n1: NodeLostError: node n1 is gone"]
    assert cancelled == [("n0", 25.0), ("n2", 25.0)]
    assert failed.nodes == {
        "n0": NodeResult("n0", is_local=True, error="cancelled, because another node failed"),
        "n1": NodeResult("n1", error="NodeLostError: node n1 is gone"),
        "n2": NodeResult("n2", error="cancelled, because another node failed"),
    }


def test_a_node_that_answers_within_the_grace_is_heard() -> None:
    cluster = StubCluster(("n0", "n1"))

    async def slow(task: NodeTask) -> NodeReport:
        await asyncio.sleep(8)
        return await cluster.work(task)

    async def fails(task: NodeTask) -> NodeReport:
        raise NodeLostError("node n0 is gone", node_id="n0")

    cluster.answers = {"n0": fails, "n1": slow}
    failed = Failed()
    with pytest.raises(NodeInitializationError):
        start(failed.hook(), cluster=cluster)
    assert failed.nodes["n1"].path == "/models/m"


def test_a_cluster_that_cannot_cancel_is_not_waited_for_long() -> None:
    async def stubborn(task: NodeTask) -> NodeReport:
        try:
            await asyncio.sleep(10**6)
        except asyncio.CancelledError:
            await asyncio.sleep(60)
        raise AssertionError

    cluster = StubCluster(("n0",), answers={"n0": stubborn}, node_timeout_s=100)

    async def main() -> float:
        with pytest.raises(NodeInitializationError, match="node n0 did not answer within 100 s"):
            async with initialization(Config(), cluster=cluster):
                raise AssertionError
        return asyncio.get_running_loop().time()

    assert run(main()) == 110


def test_a_start_that_is_cancelled_cancels_its_nodes_tasks() -> None:
    cancelled: list[str] = []

    async def waits(task: NodeTask) -> NodeReport:
        try:
            return await silence(task)
        finally:
            cancelled.append(task.node_id)

    async def body() -> None:
        async with initialization(Config(), cluster=StubCluster(("n0", "n1"), answers={"n0": waits, "n1": waits})):
            raise AssertionError

    cancel(body)
    assert cancelled == ["n0", "n1"]


def test_a_start_that_is_cancelled_gives_its_group_back() -> None:
    cluster = StubCluster()

    async def body() -> None:
        async with initialization(Config(), cluster=cluster):
            await asyncio.Event().wait()

    cancel(body)
    assert cluster.calls[-1] == "remove"


# -- downloads ----------------------------------------------------------------------------------------------------


def test_a_download_that_fails() -> None:
    async def download(task: NodeTask, mode: DownloadMode) -> str | None:
        if task.node_id == "n1":
            raise PermissionError("no access")
        return "/models/m"

    failed = Failed()
    mirror = {"bucket_uri": "s3://models/m", "extra_files": [{"bucket_uri": "s3://models/extra"}]}
    with pytest.raises(NodeInitializationError) as caught:
        start(failed.hook(), cluster=StubCluster(mirror=mirror, download=download))
    (error,) = caught.value.exceptions
    assert isinstance(error, DownloadError)
    assert str(error) == (
        "model 'm' could not be downloaded to node n1 from s3://models/m, s3://models/extra: PermissionError: no access"
    )
    assert error.node_id == "n1"
    assert 'raise PermissionError("no access")' in str(error.remote_traceback)
    assert failed.nodes["n1"].download_s > 0


def test_a_download_after_which_nothing_is_there() -> None:
    async def download(task: NodeTask, mode: DownloadMode) -> str | None:
        return task.source_id  # as Ray's downloader does when it fails

    with pytest.raises(NodeInitializationError) as caught:
        start(cluster=StubCluster(("n0",), download=download))
    assert str(caught.value.exceptions[0]) == (
        "model 'm' could not be downloaded to node n0 from s3://models/m: nothing arrived, and the downloader did not "
        "say why; its log may"
    )


def test_nothing_is_missed_where_only_extra_files_were_wanted() -> None:
    async def download(task: NodeTask, mode: DownloadMode) -> str | None:
        return task.source_id

    @hook("on_before_download")
    def no_weights(ctx: CallbackCtx) -> None:
        ctx.worker_node_download_model = "NONE"

    extra: dict[str, Any] = {"extra_files": [{"bucket_uri": "s3://models/extra"}]}
    assert start(cluster=StubCluster(("n0",), mirror=extra, download=download)).ctx.model_path == "org/m"
    both = {**extra, "bucket_uri": "s3://models/m"}
    assert start(no_weights, cluster=StubCluster(("n0",), mirror=both, download=download)).ctx.model_path == "org/m"


# -- what is not a hook's fault -----------------------------------------------------------------------------------


def test_whatever_else_goes_wrong_on_a_node_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(StubCluster):
        def defaults(self, llm_config: Any) -> Any:
            mirror: Any = ["not a mapping"]
            return super().defaults(llm_config)._replace(mirror=mirror)

    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None: ...

    with pytest.raises(NodeInitializationError) as caught:
        start(work, cluster=Odd(("n1",)))
    (error,) = caught.value.exceptions
    assert isinstance(error, NodeLostError)
    assert str(error) == "AttributeError: 'list' object has no attribute 'get'"
    assert error.node_id == "n1"


def test_a_task_that_cannot_be_sent_is_named_with_its_node() -> None:
    class Wrong(StubCluster):
        async def run_on_node(self, task: NodeTask, *, runtime_env: dict[str, Any] | None) -> NodeReport:
            if task.node_id == "n1":
                return await super().run_on_node(task, runtime_env=runtime_env)
            raise (ValueError if task.node_id == "n0" else TypeError)("the runtime_env is wrong")

    with pytest.raises(NodeInitializationError) as caught:
        start(cluster=Wrong())
    there = pickle.loads(pickle.dumps(caught.value))
    assert there.node_ids == caught.value.node_ids == ("n0", "n2")
    part, rest = there.split(TypeError)
    assert (part.node_ids, rest.node_ids) == (("n2",), ("n0",))


class Panic(BaseException):
    """As a panic in a downloader's Rust code is raised."""


@pytest.mark.parametrize("raised", [SystemExit("no torch"), Panic("no torch")])
def test_a_download_that_exits_is_named_with_its_node(raised: BaseException) -> None:
    async def download(task: NodeTask, mode: DownloadMode) -> str:
        raise raised

    with pytest.raises(NodeInitializationError, match=rf"node n1: DownloadError: .*{type(raised).__name__}: no torch"):
        start(cluster=StubCluster(("n1",), download=download))


@pytest.mark.parametrize(
    ("raised", "what"),
    [(SystemExit("no CUDA"), "called sys.exit('no CUDA')"), (Panic("no CUDA"), "raised Panic: no CUDA")],
)
def test_an_engine_that_exits_while_it_is_imported_does_not_end_the_event_loop(
    raised: BaseException, what: str
) -> None:
    class Exits(StubCluster):
        def defaults(self, llm_config: Any) -> Any:
            raise raised

    with pytest.raises(ServeLLMHooksError) as caught:
        start(cluster=Exits())
    assert str(caught.value) == (
        f"in the replica of model 'm' on node n0: a module that was imported for the start {what}"
    )


# -- failures that fail -------------------------------------------------------------------------------------------


async def start_with_engine(start_engine: Callable[[], object], *hooks: Any, cluster: StubCluster) -> None:
    async with initialization(Config(hooks=hooks), cluster=cluster):
        start_engine()


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (UnreadableError(), UnreadableError),
        (shared(40), ExceptionGroup),
        (SystemExit(3), ServeLLMHooksError),
        (Panic("index"), ServeLLMHooksError),
        (asyncio.CancelledError("by the engine"), ServeLLMHooksError),
    ],
)
def test_whatever_the_engine_raises_its_failure_is_told(error: BaseException, seen: type[Exception]) -> None:
    def start_engine() -> None:
        raise error

    failed, cluster = Failed(), StubCluster()

    async def main() -> None:  # asyncio's own runner fails with an exception without a repr
        with pytest.raises(type(error)) as caught:
            await start_with_engine(start_engine, failed.hook(), cluster=cluster)
        assert caught.value is error

    run(main())
    assert type(failed.error) is seen
    assert error in (failed.error, failed.error.__cause__)
    assert cluster.calls[-1] == "remove"


def test_on_failure_runs_whatever_the_log_does() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.ERROR:
                raise LookupError("no disk for the log")

    @hook("on_failure", order=-1)
    def fails_too(ctx: CallbackCtx) -> None:
        raise UnreadableError

    def start_engine() -> None:
        raise OSError("no GPU")

    failed, log, broken = Failed(), logging.getLogger("serve_llm_hooks"), Broken()
    log.addHandler(broken)
    try:
        with pytest.raises(OSError, match="no GPU"):
            run(start_with_engine(start_engine, fails_too, failed.hook(), cluster=StubCluster()))
    finally:
        log.removeHandler(broken)
    assert str(failed.error) == "no GPU"


@pytest.mark.parametrize("kind", [GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("point", ["on_after_placement_group", "on_before_node_download"])
def test_a_hook_that_closes_or_cancels_without_being_asked(kind: type[BaseException], point: Any) -> None:
    @hook(point)
    async def ends(ctx: Any) -> None:
        raise kind("of its own")

    failed, cluster = Failed(), StubCluster()
    with pytest.raises(ServeLLMHooksError, match=f"{kind.__name__}: of its own"):
        start(ends, failed.hook(), cluster=cluster)
    assert failed.error is not None
    assert cluster.calls[-1] == "remove"


@pytest.mark.parametrize("kind", [GeneratorExit, asyncio.CancelledError])
def test_a_download_that_closes_or_cancels_without_being_asked(kind: type[BaseException]) -> None:
    async def download(task: NodeTask, mode: DownloadMode) -> str | None:
        raise kind("of its own")

    failed = Failed()
    with pytest.raises(NodeInitializationError) as caught:
        start(failed.hook(), cluster=StubCluster(("n0",), download=download))
    (error,) = caught.value.exceptions
    assert isinstance(error, DownloadError)
    assert f"{kind.__name__}: of its own" in str(error)
    assert failed.error is caught.value


@pytest.mark.parametrize("timeout_s", [None, 60.0])
@pytest.mark.parametrize("awaits", [True, False])
def test_a_hook_that_cancels_the_task_it_runs_in_on_a_node(awaits: bool, timeout_s: float | None) -> None:
    @hook("on_before_node_download", timeout_s=timeout_s)
    async def cancels_itself(ctx: NodeCtx) -> None:
        cancel_this_task()
        if awaits:
            await asyncio.sleep(1)

    failed = Failed()
    with pytest.raises(NodeInitializationError) as caught:
        start(cancels_itself, failed.hook(), cluster=StubCluster(("n0",)))
    (error,) = caught.value.exceptions
    assert isinstance(error, HookError)
    assert error.node_id == "n0"
    assert "cancels_itself failed at on_before_node_download for model 'm' on node n0" in str(error)
    assert failed.error is caught.value


def test_with_warn_a_hook_that_cancels_the_task_it_runs_in_on_a_node_lets_the_work_go_on() -> None:
    @hook("on_before_node_download", on_error="warn")
    async def cancels_itself(ctx: NodeCtx) -> None:
        cancel_this_task()
        await asyncio.sleep(1)

    started = start(cancels_itself, cluster=StubCluster(("n0",)))
    assert [(event.name, event.outcome) for event in started.ctx.trace] == [("cancels_itself", "warned")]
    assert "download n0 MODEL_AND_TOKENIZER" in started.cluster.calls


@pytest.mark.parametrize("timeout_s", [None, 60.0])
@pytest.mark.parametrize("awaits", [True, False])
def test_a_hook_that_cancels_the_task_it_runs_in_in_the_replica(awaits: bool, timeout_s: float | None) -> None:
    @hook("on_after_placement_group", timeout_s=timeout_s)
    async def cancels_itself(ctx: CallbackCtx) -> None:
        cancel_this_task()
        if awaits:
            await asyncio.sleep(1)

    failed, cluster = Failed(), StubCluster()
    with pytest.raises(HookError, match="cancels_itself failed at on_after_placement_group for model 'm'") as caught:
        start(cancels_itself, failed.hook(), cluster=cluster)
    assert failed.error is caught.value
    assert cluster.calls[-1] == "remove"


def test_a_cluster_whose_answer_is_cancelled_has_lost_the_node() -> None:
    async def cancelled(task: NodeTask) -> NodeReport:
        raise asyncio.CancelledError

    with pytest.raises(NodeInitializationError, match="was cancelled by something else: CancelledError") as caught:
        start(cluster=StubCluster(("n0",), answers={"n0": cancelled}))
    assert caught.value.node_ids == ("n0",)


@pytest.mark.parametrize("name", HOSTILE)
def test_an_engine_may_raise_what_cannot_be_asked(name: str) -> None:
    def start_engine() -> None:
        raise HOSTILE[name]()

    failed, cluster = Failed(), StubCluster()

    async def main() -> str:
        try:
            await start_with_engine(start_engine, failed.hook(), cluster=cluster)
        except BaseException as error:  # out of a task, asyncio itself would not stand some of them
            return one_line(error)
        return ""

    raised = run(main())
    assert "the text" in raised
    assert failed.error is not None
    assert raised in one_line(failed.error)
    assert cluster.calls[-1] == "remove"


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hook_on_a_node_may_raise_what_cannot_be_asked(name: str) -> None:
    @hook("on_before_node_download")
    async def fails(ctx: NodeCtx) -> None:
        from tests.unit.unreadable import HOSTILE  # classes that cannot be pickled

        raise HOSTILE[name]()

    with pytest.raises(NodeInitializationError, match="the text") as caught:
        start(fails, cluster=StubCluster(("n0",)))
    (told,) = caught.value.exceptions
    assert isinstance(told, HookError)
    assert "the text" in str(told.remote_traceback)


@pytest.mark.parametrize("make", [UnreadableError, partial(shared, 40), partial(deep, 5000)])
def test_what_cannot_be_told_comes_from_a_node_with_the_hooks_name(make: Callable[[], BaseException]) -> None:
    @hook("on_before_node_download")
    def fails(ctx: NodeCtx) -> None:
        raise make()

    with pytest.raises(NodeInitializationError) as caught:
        start(fails, cluster=StubCluster(("n0",)))
    (told,) = caught.value.exceptions
    assert isinstance(told, HookError)
    assert len(str(told)) < 1000
    assert told.remote_traceback is not None
    assert len(told.remote_traceback) < 25_000
