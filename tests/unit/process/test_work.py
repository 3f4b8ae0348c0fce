"""The hooks of one process of an engine: which of them run, what they find, and what their failures tell."""

from __future__ import annotations

import logging
import os
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import EngineProcessCtx, HookError, HookNotAllowedError, HookPickleError, HookRegistry
from serve_llm_hooks._core.node import Node
from serve_llm_hooks._node.packing import pack_custom_data, pack_hooks
from serve_llm_hooks._process.payload import LIMIT, from_text, to_text
from serve_llm_hooks._process.task import Process, ProcessReport, ProcessTask
from serve_llm_hooks._process.work import run_task

if TYPE_CHECKING:
    from collections.abc import Mapping

    from serve_llm_hooks._core.options import OnError

NODE = Node("n0", "10.0.0.1", "gpu-0")
CORE, WORKER = Process("core"), Process("worker", 1)


def task_of(hooks: HookRegistry, custom_data: dict[str, Any] | None = None, on_error: OnError = "raise") -> ProcessTask:
    packed = pack_custom_data(custom_data or {}, where="the test")
    return ProcessTask("m", NODE, pack_hooks(hooks.hooks("on_engine_process_start")), packed, on_error)


def work(task: ProcessTask, process: Process = WORKER, environ: Mapping[str, str] | None = None) -> ProcessReport:
    return run_task(pickle.loads(pickle.dumps(task)), process, node=NODE, environ=environ)


def ran(report: ProcessReport) -> list[tuple[str, str, str]]:
    return [(event.name, event.outcome, event.process) for event in report.events]


def test_hooks_run_in_their_order_in_this_thread_with_a_ctx_of_their_process() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start", on_error="warn")
    def tell(ctx: EngineProcessCtx) -> None:
        raise LookupError(f"{ctx} {ctx.node_id} {ctx.role} {ctx.rank} {ctx.custom_data} {threading.get_ident()}")

    @hooks.hook("on_engine_process_start", order=-1)
    def first(ctx: EngineProcessCtx) -> None: ...

    report = work(task_of(hooks, {"parser": "ours"}))
    assert ran(report) == [("first", "ok", "worker-1"), ("tell", "warned", "worker-1")]
    assert report.events[1].detail == (
        f"LookupError: <EngineProcessCtx of model 'm' in worker-1> n0 worker 1 {{'parser': 'ours'}} "
        f"{threading.get_ident()}"
    )
    assert {(each.node_id, each.address) for each in report.events} == {("n0", "10.0.0.1")}
    assert {each.process_id for each in report.events} == {report.process_id} == {os.getpid()}
    assert report.failure is None


@pytest.mark.parametrize(
    ("process", "names"),
    [
        (Process("frontend"), ["anywhere"]),
        (Process("config"), ["anywhere"]),
        (CORE, ["anywhere", "core"]),
        (WORKER, ["anywhere", "worker"]),
        (Process("core", is_worker_too=True), ["anywhere", "core", "worker"]),
        (Process("inspection"), ["inspection"]),
    ],
)
def test_roles_say_where(process: Process, names: list[str]) -> None:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start")
    def anywhere(ctx: EngineProcessCtx) -> None: ...

    @hooks.hook("on_engine_process_start", roles="core")
    def core(ctx: EngineProcessCtx) -> None: ...

    @hooks.hook("on_engine_process_start", roles=["worker"])
    def worker(ctx: EngineProcessCtx) -> None: ...

    @hooks.hook("on_engine_process_start", roles="inspection")
    def inspection(ctx: EngineProcessCtx) -> None: ...

    assert [event.name for event in work(task_of(hooks), process).events] == names


def test_a_hook_for_other_roles_is_not_even_unpickled() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start", roles="core")
    def core(ctx: EngineProcessCtx) -> None: ...

    task = task_of(hooks)
    (packed,) = task.hooks
    task = task._replace(hooks=(packed._replace(data=b"not to be unpickled here"),))
    assert work(task, WORKER).failure is None
    failure = work(task, CORE).failure
    assert "cannot be unpacked in core on node n0 (10.0.0.1, gpu-0)" in str(failure)


def test_a_failure_is_told_in_the_hooks_words() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start")
    def fails(ctx: EngineProcessCtx) -> None:
        raise LookupError("no such parser")

    @hooks.hook("on_engine_process_start")
    def later(ctx: EngineProcessCtx) -> None: ...

    report = work(task_of(hooks))
    failure = pickle.loads(pickle.dumps(report)).failure
    assert type(failure) is HookError
    assert str(failure).endswith(
        "fails failed at on_engine_process_start for model 'm' in worker-1 on node n0 (10.0.0.1, gpu-0): "
        "LookupError: no such parser"
    )
    assert (failure.process, failure.node_id, failure.model_id) == ("worker-1", "n0", "m")
    assert failure.__notes__[0].startswith("Traceback in worker-1 on node n0:")
    assert "raise LookupError" in (failure.remote_traceback or "")
    assert ran(report) == [("fails", "failed", "worker-1")]


def test_a_warning_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start")
    def fails(ctx: EngineProcessCtx) -> None:
        raise SystemExit(3)

    @hooks.hook("on_engine_process_start")
    def later(ctx: EngineProcessCtx) -> None: ...

    with caplog.at_level(logging.WARNING):
        report = work(task_of(hooks, on_error="warn"))
    assert ran(report) == [("fails", "warned", "worker-1"), ("later", "ok", "worker-1")]
    assert "going on" in caplog.text


def test_what_is_told_shows_the_hook_that_a_process_dies_in() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start")
    def dies(ctx: EngineProcessCtx) -> None: ...

    told: list[ProcessReport] = []
    run_task(task_of(hooks), CORE, node=NODE, tell=told.append)
    assert [report.running.rpartition(".")[2] for report in told] == ["dies", ""]
    assert [len(report.events) for report in told] == [0, 1]


@pytest.mark.parametrize(
    ("process", "waits"),
    [
        (Process("frontend"), False),
        (Process("config"), False),
        (CORE, False),
        (WORKER, True),
        (Process("core", is_worker_too=True), True),
        (Process("inspection"), False),
    ],
)
def test_who_reads_the_weights_waits_for_the_background(process: Process, waits: bool) -> None:
    seen: list[str] = []
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start", roles=["frontend", "config", "core", "worker", "inspection"])
    def register(ctx: EngineProcessCtx) -> None: ...

    def wait() -> str:
        seen.append("waits")
        return ""

    task = task_of(hooks)._replace(waits_for="acme:fetch")
    run_task(task, process, node=NODE, wait=wait, tell=lambda report: seen.append(report.running.rpartition(".")[2]))
    assert seen == [*(["waits"] if waits else []), "register", ""]


def test_a_worker_whose_background_has_failed_runs_nothing() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start")
    def register(ctx: EngineProcessCtx) -> None: ...

    task = task_of(hooks)._replace(waits_for="acme:fetch")
    report = run_task(task, WORKER, node=NODE, wait=lambda: "no space left")
    assert report.events == ()
    assert str(report.failure) == (
        "model 'm': worker-1 on node n0 (10.0.0.1, gpu-0) waited for acme:fetch, in the background: no space left"
    )


def test_nothing_is_imported_that_the_process_may_not_run() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start")
    def forbidden(ctx: EngineProcessCtx) -> None: ...

    report = work(task_of(hooks), environ={"SERVE_LLM_HOOKS_ALLOW": "acme.*"})
    assert type(report.failure) is HookNotAllowedError
    assert "may not run in worker-1 on node n0" in str(report.failure)
    assert report.events == ()


def test_custom_data_is_a_copy_that_takes_no_changes() -> None:
    ctx = EngineProcessCtx(model_id="m", role="core", custom_data={"a": 1})
    with pytest.raises(TypeError, match="nothing of it goes back"):
        ctx.custom_data["a"] = 2  # type: ignore[index]  # what a checker refuses too
    with pytest.raises(AttributeError, match=r"ctx\.role is read-only"):
        ctx.role = "worker"  # type: ignore[misc]  # what a checker refuses too
    assert ctx.process == "core"


def test_a_task_is_a_text_that_is_not_too_long() -> None:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start")
    def register(ctx: EngineProcessCtx) -> None: ...

    task = task_of(hooks, {"small": 1})
    assert from_text(to_text(task, "folder", "key")) == (task, ("folder", "key"))
    too_large = rf"room for {LIMIT} characters\. The largest: ctx\.custom_data\['weights'\] \(2000"
    with pytest.raises(HookPickleError, match=too_large):
        to_text(task_of(hooks, {"weights": os.urandom(200_000), "small": 1}))
