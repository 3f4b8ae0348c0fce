"""``on_node_failure``: a node whose own work has failed cleans up, in the process that did it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    DownloadMode,
    HookError,
    HookTimeoutError,
    NodeCtx,
    NodeInitializationError,
    RayServeLLMCallback,
    ServeLLMHooksError,
    hook,
    load_hooks,
)
from serve_llm_hooks._node.work import run_task
from tests.unit.stub import MIRROR, Failed, StubCluster, node_task, run, start, start_with

if TYPE_CHECKING:
    from serve_llm_hooks import Hook
    from serve_llm_hooks._node.task import NodeReport, NodeTask


async def no_download(task: NodeTask, mode: DownloadMode) -> str | None:
    raise AssertionError


@hook("on_after_node_download")
def breaks(ctx: NodeCtx) -> None:
    raise OSError("disk full")


seen: list[NodeCtx] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


@hook("on_node_failure")
def look(ctx: NodeCtx) -> None:
    seen.append(ctx)
    ctx.custom_data["looked"] = str(ctx.error)


def work_of(*hooks: Any, **fields: Any) -> NodeReport:
    """Return the report of a node that has these hooks."""
    return run(run_task(node_task(_hooks(*hooks), **fields), no_download))


def _hooks(*functions: Any) -> list[Hook]:
    return list(load_hooks(*functions))


def test_the_error_has_its_cause_and_the_context_is_that_of_the_other_hooks() -> None:
    report = work_of(breaks, look)
    (ctx,) = seen
    assert isinstance(ctx.error, HookError)
    assert isinstance(ctx.error.__cause__, OSError)  # its own, and not a text, as the replica has it
    assert ctx.model_path == "/models/m"
    assert [(event.point, event.outcome) for event in report.events] == [
        ("on_after_node_download", "failed"),
        ("on_node_failure", "ok"),
    ]
    assert pickle.loads(dict(report.custom_data)["looked"]) == str(ctx.error)
    assert isinstance(report.failure, HookError)
    assert report.failure.hook == "tests.unit.replica.test_node_failure:breaks"


mounted = contextvars.ContextVar("mounted", default="nothing")
tokens: list[contextvars.Token[str]] = []


@hook("on_before_node_download")
async def mount(ctx: NodeCtx) -> None:
    tokens.append(mounted.set("/mnt"))


@hook("on_node_failure")
async def unmount(ctx: NodeCtx) -> None:
    mounted.reset(tokens.pop())


def test_a_clean_up_may_reset_a_context_variable_that_a_hook_has_set() -> None:
    report = work_of(mount, breaks, unmount)
    assert [event.outcome for event in report.events] == ["ok", "failed", "ok"]


def test_a_node_that_succeeds_runs_none() -> None:
    @hook("on_after_node_download")
    def good(ctx: NodeCtx) -> None:
        assert ctx.error is None

    report = work_of(good, look)
    assert [event.name for event in report.events] == ["good"]
    assert seen == []


def test_its_failure_is_a_note_on_the_first_and_the_others_run(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_node_failure", order=-1)
    def fails_too(ctx: NodeCtx) -> None:
        raise ValueError("no clean-up today")

    report = work_of(breaks, look, fails_too)
    assert len(seen) == 1
    assert report.failure is not None
    assert "disk full" in str(report.failure)
    arrived = pickle.loads(pickle.dumps(report.failure))
    assert "fails_too failed at on_node_failure" in arrived.__notes__[-1]
    assert "no clean-up today (the first error is raised)" in caplog.text


def test_a_note_reaches_the_replica_also_on_a_download_that_fails() -> None:
    @hook("on_node_failure")
    def fails_too(ctx: NodeCtx) -> None:
        raise ValueError("no clean-up today")

    async def download(task: NodeTask, mode: DownloadMode) -> str | None:
        raise OSError("connection cut")

    with pytest.raises(NodeInitializationError) as caught:
        start(fails_too, cluster=StubCluster(download=download))
    for error in caught.value.exceptions:
        assert "connection cut" in str(error)
        assert "no clean-up today" in error.__notes__[-1]


def test_one_with_on_error_warn_is_a_warning_and_no_note(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_node_failure", on_error="warn")
    def fails_too(ctx: NodeCtx) -> None:
        raise ValueError("never mind")

    report = work_of(breaks, fails_too)
    assert [event.outcome for event in report.events] == ["failed", "warned"]
    assert "never mind" not in str(getattr(report.failure, "__notes__", ""))


def test_a_clean_up_that_hangs_ends_at_its_timeout() -> None:
    @hook("on_node_failure", timeout_s=5)
    async def hangs(ctx: NodeCtx) -> None:
        await asyncio.sleep(1000)

    report = work_of(breaks, hangs, look)
    assert [event.outcome for event in report.events] == ["failed", "timed_out", "ok"]


def test_one_without_a_timeout_has_thirty_seconds_and_does_not_hide_why_the_node_failed() -> None:
    @hook("on_node_failure")
    async def hangs(ctx: NodeCtx) -> None:
        await asyncio.sleep(3600)

    async def work() -> tuple[NodeReport, float]:
        report = await run_task(node_task(_hooks(breaks, hangs, look)), no_download)
        return report, asyncio.get_running_loop().time()

    report, took_s = run(work())
    assert 30 <= took_s <= 31
    assert "disk full" in str(report.failure)
    assert report.failure is not None
    note = report.failure.__notes__[-1]
    assert "hangs failed at on_node_failure" in note
    assert note.endswith("still running when the 30 s of a hook at on_node_failure were over")
    assert [event.outcome for event in report.events] == ["failed", "timed_out", "ok"]


def test_one_with_a_timeout_of_its_own_has_that() -> None:
    @hook("on_node_failure", timeout_s=300)
    async def takes_a_minute(ctx: NodeCtx) -> None:
        await asyncio.sleep(60)

    assert [event.outcome for event in work_of(breaks, takes_a_minute).events] == ["failed", "ok"]


def test_the_failure_is_in_the_log_before_the_clean_up_begins(caplog: pytest.LogCaptureFixture) -> None:
    @hook("on_node_failure")
    async def says_so(ctx: NodeCtx) -> None:
        logging.getLogger("serve_llm_hooks.test").error("cleaning up")

    work_of(breaks, says_so)
    first, second = (record.getMessage() for record in caplog.records if record.levelno == logging.ERROR)
    assert first.startswith("model 'm': node n0 failed: HookError: hook tests.unit.replica.test_node_failure:breaks")
    assert first.endswith("disk full")
    assert second == "cleaning up"


let_go = threading.Event()


@hook("on_before_node_download", timeout_s=0.1)
def holds(ctx: NodeCtx) -> None:
    let_go.wait(20)


def test_after_a_hook_that_holds_its_thread_another_thread_cleans_up() -> None:
    async def main() -> NodeReport:
        return await run_task(node_task(_hooks(holds, look)), no_download)

    try:
        report = asyncio.run(main())  # in real time: a thread that blocks
    finally:
        let_go.set()
    assert isinstance(seen[0].error, HookTimeoutError)
    assert report.events[-1].outcome == "ok"


def cancelled_after(*, s: float, again_after_s: float | None = None, hooks: Any, **fields: Any) -> tuple[float, bool]:
    """Cancel a node's work after some time, and perhaps once more; how long it took, and whether it said so."""

    async def main() -> tuple[float, bool]:
        loop = asyncio.get_running_loop()
        task = loop.create_task(run_task(node_task(_hooks(*hooks), **fields), no_download))
        await asyncio.sleep(s)
        task.cancel()
        if again_after_s is not None:
            await asyncio.sleep(again_after_s)
            task.cancel()
        await asyncio.wait({task})
        return loop.time(), task.cancelled()

    return run(main())


@hook("on_before_node_download")
async def works(ctx: NodeCtx) -> None:
    await asyncio.sleep(1000)


def test_after_a_cancellation_it_says_so() -> None:
    assert cancelled_after(s=3, hooks=[works, look]) == (3.0, True)
    error = seen[0].error
    assert type(error) is ServeLLMHooksError
    assert str(error) == (
        "node n0: the work there was cancelled: another node has failed, the start has ended, or the time was over"
    )
    assert isinstance(error.__cause__, asyncio.CancelledError)


def test_a_hook_that_catches_its_cancellation_lets_no_download_begin() -> None:
    @hook("on_before_node_download")
    async def polite(ctx: NodeCtx) -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1000)

    fields: dict[str, Any] = {"mirror": MIRROR, "download_model": DownloadMode.MODEL_AND_TOKENIZER}
    assert cancelled_after(s=3, hooks=[polite, look], **fields) == (3.0, True)
    (ctx,) = seen
    assert "the work there was cancelled" in str(ctx.error)


def test_a_clean_up_is_cancelled_when_that_is_asked_for_once_more() -> None:
    @hook("on_node_failure")
    async def slow(ctx: NodeCtx) -> None:
        await asyncio.sleep(1000)

    assert cancelled_after(s=3, again_after_s=2, hooks=[works, slow, look]) == (5.0, True)
    assert seen == []


@hook("on_node_failure")
async def takes_two_seconds(ctx: NodeCtx) -> None:
    await asyncio.sleep(2)
    seen.append(ctx)


def test_a_clean_up_may_take_its_time() -> None:
    assert cancelled_after(s=3, hooks=[works, takes_two_seconds]) == (5.0, True)
    assert len(seen) == 1


def test_a_class_cleans_up_what_it_has_set_up() -> None:
    class Mount(RayServeLLMCallback):
        def on_before_node_download(self, ctx: NodeCtx) -> None:
            self.mounted = ["/cache"]
            raise OSError(f"no such device for {ctx.node_id}")

        def on_node_failure(self, ctx: NodeCtx) -> None:
            ctx.custom_data["unmounted"] = self.mounted

    failed = Failed()
    with pytest.raises(NodeInitializationError):
        start_with(callback=Mount, hooks=[failed.hook()])
    assert [node.custom_data["unmounted"] for node in failed.nodes.values()] == [["/cache"]] * 3


def test_on_failure_in_the_replica_comes_after_it() -> None:
    @hook("on_before_node_download")
    def second_breaks(ctx: NodeCtx) -> None:
        if ctx.node_id == "n1":
            raise OSError

    failed = Failed()
    with pytest.raises(NodeInitializationError):
        start(second_breaks, failed.hook(), look)
    assert [ctx.node_id for ctx in seen] == ["n1"]
    assert failed.ctx is not None
    assert failed.ctx.trace.events[-1].point == "on_failure"
    assert failed.ctx.nodes["n1"].custom_data["looked"] == str(seen[0].error)


def test_a_failure_before_any_hook_could_be_loaded_runs_none() -> None:
    task = node_task(_hooks(breaks, look))
    report = run(run_task(task, no_download, environ={"SERVE_LLM_HOOKS_ALLOW": "another.module"}))
    assert report.failure is not None
    assert report.events == ()
    assert seen == []
