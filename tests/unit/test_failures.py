"""A start that fails: which error, what it says, and who is told."""

from __future__ import annotations

import asyncio
import functools
import pickle
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackCtx,
    DownloadError,
    DownloadMode,
    EngineArgumentError,
    HookError,
    HookLoadError,
    HookOrderError,
    HookPickleError,
    HookResultError,
    HookTimeoutError,
    NodeCtx,
    NodeInitializationError,
    NodeLostError,
    NodeResult,
    PlacementGroupError,
    ServeLLMHooksError,
    hook,
    initialization,
    load_hooks,
)
from tests.unit.stub import Config, StubCluster, run, start

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from serve_llm_hooks.node import NodeReport, NodeTask

HERE = __name__


def local(test: Callable[..., object], name: str) -> str:
    """How a message names a function that a test defines inside itself."""
    return f"{HERE}:{test.__name__}.<locals>.{name}"


class Failed:
    """``on_failure`` hooks that keep what they saw."""

    def __init__(self) -> None:
        self.ctx: CallbackCtx | None = None

    @property
    def error(self) -> Exception | None:
        assert self.ctx is not None
        return self.ctx.error

    @property
    def nodes(self) -> dict[str, NodeResult]:
        assert self.ctx is not None
        return dict(self.ctx.nodes)

    def hook(self) -> Any:
        @hook("on_failure")
        def keep(ctx: CallbackCtx) -> None:
            self.ctx = ctx

        return keep


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
        "it returned 'yes'; a hook at on_before_node_download returns None or True to go on, False or skip('why') to "
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


# -- placement groups ---------------------------------------------------------------------------------------------


def test_a_group_that_cannot_be_had() -> None:
    async def acquire() -> None:
        raise PlacementGroupError("8 GPUs asked, 4 there")

    failed = Failed()
    with pytest.raises(PlacementGroupError, match="8 GPUs asked, 4 there"):
        start(failed.hook(), cluster=StubCluster(acquire=acquire))
    assert isinstance(failed.error, PlacementGroupError)


def cancel(start: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Let a start be cancelled when it has come to wait for something."""

    async def main() -> None:
        task = asyncio.create_task(start())
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)

    run(main())


def test_a_start_that_is_cancelled_does_not_go_on_acquiring_its_group() -> None:
    cancelled: list[bool] = []

    async def acquire() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(True)

    async def body() -> None:
        async with initialization(Config(), cluster=StubCluster(acquire=acquire)):
            raise AssertionError

    cancel(body)
    assert cancelled == [True]


@hook("on_before_engine_init")
def breaks(ctx: CallbackCtx) -> None:
    raise OSError("disk full")


def test_the_group_of_a_failed_start_is_given_back_after_the_clean_up() -> None:
    cluster = StubCluster()

    @hook("on_failure")
    def clean_up(ctx: CallbackCtx) -> None:
        cluster.calls.append("clean up")

    with pytest.raises(HookError, match="disk full"):
        start(breaks, clean_up, cluster=cluster)
    assert cluster.calls[-2:] == ["clean up", "remove"]


def test_the_group_that_the_replica_is_in_is_not_ours_to_give_back() -> None:
    cluster = StubCluster(placement_group=("n0",))
    with pytest.raises(HookError, match="disk full"):
        start(breaks, cluster=cluster)
    assert "remove" not in cluster.calls


@pytest.mark.parametrize("point", ["on_before_init", "on_before_download", "on_after_placement_group"])
def test_none_is_the_group_that_the_replica_is_in(point: Any) -> None:
    """Older callbacks return one dict for all, with ``placement_group=None`` in it."""

    @hook(point)
    def none(ctx: CallbackCtx) -> None:
        ctx.placement_group = None

    cluster = StubCluster(placement_group=("n0",))
    with pytest.raises(HookError, match="disk full"):
        start(none, breaks, cluster=cluster)
    assert not {"acquire", "remove"} & set(cluster.calls)

    cluster = StubCluster()
    assert start(none, cluster=cluster).output.placement_group == cluster.nodes
    assert cluster.calls.count("acquire") == 1


@pytest.mark.parametrize("point", ["on_before_download", "on_after_download", "on_after_placement_group"])
def test_a_group_that_we_acquired_and_a_hook_replaced_is_given_back_before_its_own_is_waited_for(point: Any) -> None:
    class Small(StubCluster):
        async def node_ids(self, placement_group: Any, own_bundles: Any = None) -> Any:
            self.calls.append(f"wait for {'ours' if placement_group is self.nodes else 'the hook’s'}")
            return await super().node_ids(placement_group, own_bundles)

    @hook(point)
    def replace(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n0",)

    cluster = Small()
    assert start(replace, cluster=cluster).output.placement_group == ("n0",)
    assert cluster.calls.count("remove") == 1
    assert cluster.calls.index("remove") < cluster.calls.index("wait for the hook’s")


def test_a_group_that_cannot_be_given_back_is_logged_and_the_first_error_is_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Stuck(StubCluster):
        async def remove_placement_group(self, placement_group: Any) -> None:
            raise ConnectionError("no GCS")

    with pytest.raises(HookError, match="disk full"):
        start(breaks, cluster=Stuck())
    assert caplog.messages[-1] == "model 'm': its placement group may be left: ConnectionError: no GCS"


@pytest.mark.parametrize("skip_defaults", [True, False])
def test_where_no_node_is_touched_a_group_that_cannot_be_had_is_told_before_the_engine(skip_defaults: bool) -> None:
    class Full(StubCluster):
        async def node_ids(self, placement_group: Any, own_bundles: Any = None) -> Any:
            raise PlacementGroupError("8 GPUs asked, 4 there")

    def veto(ctx: CallbackCtx) -> bool:
        return False

    cluster = Full()
    hook("on_before_init" if skip_defaults else "on_before_download")(veto)
    with pytest.raises(PlacementGroupError, match="8 GPUs asked, 4 there"):
        start(veto, cluster=cluster)
    assert cluster.calls == ["acquire", "remove"]


def test_a_group_of_a_hooks_own_is_not_looked_at_where_no_node_is_touched() -> None:
    class OfNobody(StubCluster):
        async def node_ids(self, placement_group: Any, own_bundles: Any = None) -> Any:
            raise AssertionError

    @hook("on_before_init")
    def skip_defaults(ctx: CallbackCtx) -> bool:
        ctx.placement_group = "a group that is none of ours"
        return False

    assert start(skip_defaults, cluster=OfNobody()).output.placement_group == "a group that is none of ours"


def test_a_group_that_is_replaced_too_late() -> None:
    @hook("on_before_engine_init")
    def replace(ctx: CallbackCtx) -> None:
        ctx.placement_group = ("n8",)

    with pytest.raises(PlacementGroupError) as caught:
        start(replace)
    assert str(caught.value) == (
        "model 'm': ctx.placement_group was replaced at on_before_engine_init, too late for its nodes to be "
        "initialized; replace it at on_after_placement_group or before"
    )


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


# -- what cannot travel -------------------------------------------------------------------------------------------


def test_a_hook_that_captured_what_cannot_be_pickled() -> None:
    lock = threading.Lock()

    @hook("on_before_node_download")
    def guarded(ctx: NodeCtx) -> None:
        with lock:
            pass

    cluster = StubCluster()
    with pytest.raises(HookPickleError) as caught:
        start(guarded, cluster=cluster)
    ref = local(test_a_hook_that_captured_what_cannot_be_pickled, "guarded")
    assert str(caught.value) == (
        f"hook {ref} at on_before_node_download cannot be sent to another process: the variable 'lock' it captured "
        "(lock) cannot be pickled: TypeError: cannot pickle '_thread.lock' object. Make what it needs inside the hook, "
        "or pass plain data in ctx.custom_data."
    )
    assert cluster.calls == ["acquire", "remove"]


class Guarded:
    """A hook that is an object, and holds what cannot travel."""

    def __init__(self, inside: object) -> None:
        self.inside = inside

    def __call__(self, ctx: NodeCtx) -> None:
        """Do nothing."""


class WillNot:
    """What can be pickled on its own, but only once in a while."""

    times = 0

    def __reduce__(self) -> Any:
        WillNot.times += 1
        if WillNot.times == 1:
            raise TypeError("not now")
        return (WillNot, ())


def in_a_script(source: str) -> Any:
    """A hook that a script defines: it travels by value, globals included."""
    names: dict[str, Any] = {"__name__": "__main__", "hook": hook, "threading": threading}
    exec(source, names)
    return names["guarded"]


@pytest.mark.parametrize(
    ("make", "culprit"),
    [
        (
            lambda: hook("on_before_node_download")(Guarded(threading.Lock())),
            "its attribute 'inside' (lock) cannot be pickled: ",
        ),
        (
            lambda: in_a_script(
                "lock = threading.Lock()\n"
                "other = 3\n"
                "@hook('on_before_node_download')\n"
                "def guarded(ctx):\n"
                "    with lock:\n"
                "        print(other)\n"
            ),
            "the global 'lock' it uses (lock) cannot be pickled: ",
        ),
        (lambda: hook("on_before_node_download")(Guarded(WillNot())), "TypeError: not now. "),
    ],
)
def test_which_part_of_a_hook_cannot_be_pickled(make: Callable[[], Any], culprit: str) -> None:
    WillNot.times = 0
    with pytest.raises(HookPickleError) as caught:
        start(make())
    assert f"at on_before_node_download cannot be sent to another process: {culprit}" in str(caught.value)


def test_a_parameter_that_cannot_be_pickled() -> None:
    @hook("on_before_node_download")
    def fetch(ctx: NodeCtx, *, bucket: str, lock: object) -> None: ...

    entry = {"hook": fetch, "kwargs": {"bucket": "b", "lock": threading.Lock()}}
    with pytest.raises(HookPickleError, match=r"its parameter 'lock' \(lock\) cannot be pickled: TypeError"):
        start(entry)


def test_custom_data_that_cannot_leave_the_replica() -> None:
    @hook("on_before_init")
    def prepare(ctx: CallbackCtx) -> None:
        ctx.custom_data["fine"] = 1
        ctx.custom_data["lock"] = threading.Lock()

    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None: ...

    with pytest.raises(HookPickleError) as caught:
        start(prepare, work)
    assert str(caught.value) == (
        "ctx.custom_data['lock'] (lock) cannot leave the replica: TypeError: cannot pickle '_thread.lock' object. "
        "Between the replica and its nodes goes what can be pickled."
    )
    # Without a hook that could read it there, it stays, and that is fine.
    assert start(prepare).ctx.nodes["n1"].custom_data == {}


def test_custom_data_that_cannot_leave_a_node() -> None:
    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None:
        ctx.custom_data["lock"] = threading.Lock()

    with pytest.raises(NodeInitializationError) as caught:
        start(work, cluster=StubCluster(("n1",)))
    (error,) = caught.value.exceptions
    assert isinstance(error, HookPickleError)
    assert str(error).startswith("ctx.custom_data['lock'] (lock) cannot leave node n1: TypeError: ")
    assert caught.value.node_ids == ("n1",)


def test_a_hooks_failure_is_told_before_its_custom_datas() -> None:
    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None:
        ctx.custom_data["lock"] = threading.Lock()
        raise ValueError("the real one")

    with pytest.raises(NodeInitializationError, match="ValueError: the real one"):
        start(work)


def vanish(error: BaseException) -> None:
    """What an object that cannot be made again says when it is unpickled."""
    raise error


class NotThere:
    """An object whose module is not where it arrives."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error or ImportError("no module named 'theirs'")

    def __reduce__(self) -> Any:
        return (vanish, (self.error,))


def test_custom_data_that_cannot_be_unpacked_on_a_node() -> None:
    @hook("on_before_init")
    def prepare(ctx: CallbackCtx) -> None:
        ctx.custom_data["theirs"] = NotThere()

    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None: ...

    with pytest.raises(NodeInitializationError) as caught:
        start(prepare, work, cluster=StubCluster(("n1",)))
    (error,) = caught.value.exceptions
    assert isinstance(error, HookPickleError)
    assert str(error) == (
        "ctx.custom_data['theirs'] cannot be unpacked on node n1: ImportError: no module named 'theirs'. "
        "Is the same version of its module on every node?"
    )


def test_custom_data_of_a_node_that_cannot_be_unpacked_in_the_replica() -> None:
    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None:
        ctx.custom_data["theirs"] = NotThere()
        if ctx.node_id != "n0":
            raise OSError("disk full")

    failed = Failed()
    with pytest.raises(NodeInitializationError) as caught:
        start(work, failed.hook())
    assert caught.value.node_ids == ("n0", "n1", "n2")
    kinds = [type(error) for error in caught.value.exceptions]
    assert kinds == [HookPickleError, HookError, HookError], "each node's own failure, and the hook's before its data's"
    why = "ctx.custom_data['theirs'] cannot be unpacked in the replica, from node n0: "
    assert str(caught.value.exceptions[0]).startswith(why)
    assert f"HookPickleError: {why}" in str(failed.nodes["n0"].error)
    assert "OSError: disk full" in str(failed.nodes["n1"].error)


def test_a_config_that_cannot_be_sent_is_told_to_the_hook_that_asks_for_it() -> None:
    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None: ...

    @hook("on_before_node_download")
    def ask(ctx: NodeCtx) -> None:
        assert ctx.llm_config.model_id

    config = Config(hooks=[work])
    config.lock = threading.Lock()  # type: ignore[attr-defined]  # what a user keeps on a config of his own
    assert start(config=config).names == ["work"] * 3
    config.hooks = [ask]
    with pytest.raises(NodeInitializationError) as caught:
        start(config=config)
    assert (
        "the config of model 'm' cannot be sent to another process: TypeError: cannot pickle '_thread.lock' object"
        in str(caught.value)
    )


# -- a hook's module that is not on the node ----------------------------------------------------------------------


def on_a_node_without(name: str, cluster: StubCluster, then: Callable[[], object] | None = None) -> None:
    """Let the node's process have no such module, as if it had never been shipped."""

    async def answer(task: NodeTask) -> NodeReport:
        del sys.modules[name]
        if then is not None:
            then()
        return await cluster.work(task)

    cluster.answers = {"n1": answer}


def test_a_module_that_was_not_shipped(write_module: Callable[[str, str], Path]) -> None:
    file = write_module("only_here", "@hook('on_before_node_download')\ndef work(ctx):\n    pass\n")
    cluster = StubCluster(("n1",))
    hooks = load_hooks("only_here")
    on_a_node_without("only_here", cluster, then=file.unlink)
    with pytest.raises(NodeInitializationError) as caught:
        start(hooks, cluster=cluster)
    (error,) = caught.value.exceptions
    assert isinstance(error, HookLoadError)
    assert str(error) == (
        "hooks module 'only_here' cannot be imported on node n1 (no module 'only_here'), so hook only_here:work cannot "
        "run there. Ship it with the deployment: runtime_env={'working_dir': ...} or {'py_modules': [...]}, or install "
        "it on every node."
    )
    assert caught.value.node_ids == ("n1",)


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ("renamed = 'work'  # and no such function", "AttributeError: "),
        ("import sys\nsys.exit('no BUCKET here')", "its module called sys.exit('no BUCKET here'). "),
    ],
    ids=["without the function", "that exits"],
)
def test_a_module_of_another_version(there: str, why: str, write_module: Callable[[str, str], Path]) -> None:
    write_module("older", "@hook('on_before_node_download')\ndef work(ctx):\n    pass\n")
    cluster = StubCluster(("n1",))
    hooks = load_hooks("older")
    on_a_node_without("older", cluster, then=lambda: write_module("older", there))
    with pytest.raises(NodeInitializationError) as caught:
        start(hooks, cluster=cluster)
    (error,) = caught.value.exceptions
    assert isinstance(error, HookLoadError)
    assert str(error).startswith(f"hook older:work cannot be unpacked on node n1: {why}")
    assert str(error).endswith(". Is the same version of its module on every node?")


def test_custom_data_whose_module_exits() -> None:
    @hook("on_before_init")
    def prepare(ctx: CallbackCtx) -> None:
        ctx.custom_data["theirs"] = NotThere(SystemExit(3))

    @hook("on_before_node_download")
    def work(ctx: NodeCtx) -> None: ...

    with pytest.raises(NodeInitializationError) as caught:
        start(prepare, work, cluster=StubCluster(("n1",)))
    (error,) = caught.value.exceptions
    assert isinstance(error, HookPickleError)
    assert "cannot be unpacked on node n1: its module called sys.exit(3). " in str(error)


# -- what is not a hook's fault -----------------------------------------------------------------------------------


def test_whatever_else_goes_wrong_on_a_node_is_named_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(StubCluster):
        def defaults(self, llm_config: Any) -> Any:
            found = super().defaults(llm_config)
            object.__setattr__(found, "mirror", ["not a mapping"])
            return found

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


def test_a_partial_of_a_hook_that_cannot_travel_is_told_by_its_name() -> None:
    def fetch(ctx: NodeCtx, *, lock: object) -> None: ...

    made: Any = functools.partial(fetch, lock=threading.Lock())
    with pytest.raises(
        HookPickleError, match=r"<locals>\.fetch at on_before_node_download cannot be sent to another process"
    ):
        start(hook("on_before_node_download")(made))
