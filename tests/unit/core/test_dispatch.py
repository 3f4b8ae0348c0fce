"""How the hooks of one point are run: awaited or in the worker thread, in order, with veto, timeout, error policy."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sys
import threading
import traceback
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import Hook, HookError, HookResultError, HookTimeoutError, Skip, Trace, skip
from serve_llm_hooks._core.dispatch import Dispatcher
from serve_llm_hooks._core.messages import describe
from serve_llm_hooks._core.node import Node
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._core.worker_thread import WorkerThread
from tests.unit.stub import cancel_this_task, run
from tests.unit.unreadable import HOSTILE, Unreadable, UnreadableError, deep, shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks._core.options import OnError

HERE = __name__


def at(point: Any, *fns: Callable[..., Any], **options: Any) -> list[Hook]:
    return [Hook(fn, HookOptions(point, **options)) for fn in fns]


async def dispatch(
    hooks: list[Hook], ctx: Any = None, *, trace: Trace | None = None, on_error: OnError = "raise"
) -> Skip | None:
    async with Dispatcher("m", trace=trace, on_error=on_error) as dispatcher:
        return await dispatcher.run_point(hooks, ctx)


def go(hooks: list[Hook], ctx: Any = None, *, trace: Trace | None = None, on_error: OnError = "raise") -> Skip | None:
    return run(dispatch(hooks, ctx, trace=trace, on_error=on_error))


def outcomes(trace: Trace) -> list[tuple[str, str, str]]:
    return [(event.name, event.outcome, event.detail) for event in trace]


# -- order, threads, context --------------------------------------------------------------------------------------


@pytest.mark.parametrize("traced", [True, False])
def test_sync_and_async_hooks_run_in_the_order_given(traced: bool) -> None:
    seen: list[tuple[str, str]] = []

    def note(name: str) -> None:
        seen.append((name, "loop" if threading.current_thread() is threading.main_thread() else "worker"))

    def a(ctx: Any) -> None:
        note("a")

    def b(ctx: Any) -> None:
        note("b")

    async def c(ctx: Any) -> None:
        note("c")

    async def d(ctx: Any) -> None:
        await asyncio.sleep(3600)
        note("d")

    def e(ctx: Any) -> bool:
        note("e")
        return True

    def f(ctx: Any) -> None:
        note("f")

    trace = Trace() if traced else None
    assert go(at("on_before_init", a, b, c, d, e, f), trace=trace) is None
    assert seen == [("a", "worker"), ("b", "worker"), ("c", "loop"), ("d", "loop"), ("e", "worker"), ("f", "worker")]
    if trace is not None:
        assert [event.name for event in trace] == ["a", "b", "c", "d", "e", "f"]
        assert {event.outcome for event in trace} == {"ok"}
        times = [time for event in trace for time in (event.start_s, event.end_s)]
        assert times == sorted(times)


def test_nothing_to_run() -> None:
    assert go([]) is None


def test_all_sync_hooks_of_a_process_share_one_thread() -> None:
    threads: list[threading.Thread] = []

    def note(ctx: Any) -> None:
        threads.append(threading.current_thread())

    async def main() -> None:
        async with Dispatcher("m", trace=None) as dispatcher:
            await dispatcher.run_point(at("on_before_init", note, note), None)
            await dispatcher.run_point(at("on_after_init", note), None)

    run(main())
    assert len(threads) == 3
    assert len(set(threads)) == 1
    assert threads[0].daemon
    assert threads[0].name == "serve-llm-hooks"
    threads[0].join(10)
    assert not threads[0].is_alive()


def test_a_sync_hook_that_blocks_leaves_the_loop_free() -> None:
    free = threading.Event()

    def block(ctx: Any) -> None:
        assert free.wait(10)

    async def main() -> None:
        task = asyncio.create_task(dispatch(at("on_before_init", block)))
        await asyncio.sleep(0)
        free.set()
        await task

    run(main())


def test_every_hook_sees_the_callers_context_variables() -> None:
    request = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    def sync_hook(ctx: Any) -> None:
        seen.append(request.get())

    async def async_hook(ctx: Any) -> None:
        seen.append(request.get())

    async def main() -> None:
        request.set("r1")
        await dispatch(at("on_before_init", sync_hook, async_hook, sync_hook))

    run(main())
    assert seen == ["r1", "r1", "r1"]


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_a_hook_sees_the_context_variables_that_an_async_hook_before_it_has_set(timeout_s: float | None) -> None:
    request = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    async def sets(ctx: Any) -> None:
        request.set("r2")

    def sees(ctx: Any) -> None:
        seen.append(request.get())

    go(at("on_before_init", sets, timeout_s=timeout_s) + at("on_before_init", sees))
    assert seen == ["r2"]


@pytest.mark.parametrize("default", [{"default": "none"}, {}])
@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_an_async_hook_may_reset_a_context_variable_that_another_has_set(
    timeout_s: float | None, default: dict[str, str]
) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", **default)
    tokens: list[contextvars.Token[str]] = []
    seen: list[str] = []

    async def enters(ctx: Any) -> None:
        tokens.append(request.set("r2"))

    def sees(ctx: Any) -> None:
        seen.append(request.get("unset"))

    async def sees_async(ctx: Any) -> None:
        sees(ctx)

    async def leaves(ctx: Any) -> None:
        request.reset(tokens.pop())

    async def main() -> None:
        enter, leave = (at("on_before_init", fn, timeout_s=timeout_s) for fn in (enters, leaves))
        look = at("on_before_init", sees, sees_async)
        async with Dispatcher("m", trace=None) as dispatcher:
            await dispatcher.run_point(enter + look, None)
            sees(None)
            await dispatcher.run_point(leave + look, None)
        sees(None)

    run(main())
    assert seen == ["r2", "r2", "r2", "unset", "unset", "unset"]


def test_an_async_hook_sees_what_the_caller_has_set_since_the_last_one() -> None:
    request = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    async def sees_and_sets(ctx: Any) -> None:
        seen.append(request.get())
        request.set(f"a hook's after {request.get()}")

    async def main() -> None:
        async with Dispatcher("m", trace=None) as dispatcher:
            for value in ("r1", "r2"):
                request.set(value)
                await dispatcher.run_point(at("on_before_init", sees_and_sets), None)

    run(main())
    assert seen == ["r1", "r2"]


def test_a_sync_hook_may_return_something_to_await() -> None:
    async def inside(ctx: Any) -> Skip:
        await asyncio.sleep(1)
        ctx.append("awaited")
        return skip("asked the store")

    def outside(ctx: Any) -> Any:
        return inside(ctx)

    def following(ctx: Any) -> None:
        ctx.append("following")

    ctx: list[str] = []
    assert go(at("on_before_download", outside, following), ctx) == skip("asked the store")
    assert ctx == ["awaited", "following"]


# -- veto ---------------------------------------------------------------------------------------------------------


def test_all_hooks_run_and_the_first_veto_counts(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "serve_llm_hooks")
    trace = Trace()

    def yes(ctx: Any) -> None: ...

    def no(ctx: Any) -> bool:
        return False

    async def never(ctx: Any) -> Skip:
        return skip("not on Sundays")

    def also_yes(ctx: Any) -> bool:
        return True

    assert go(at("on_before_init", yes, never, no, also_yes), trace=trace) == skip("not on Sundays")
    assert outcomes(trace) == [
        ("yes", "ok", ""),
        ("never", "vetoed", "not on Sundays"),
        ("no", "vetoed", ""),
        ("also_yes", "ok", ""),
    ]
    path = f"{HERE}:test_all_hooks_run_and_the_first_veto_counts.<locals>"
    assert caplog.messages == [
        f"model 'm': {path}.never vetoed at on_before_init: not on Sundays",
        f"model 'm': {path}.no vetoed at on_before_init",
    ]


def test_the_first_of_two_vetoes_counts_in_one_thread_too() -> None:
    assert go(at("on_before_init", lambda ctx: skip("first"), lambda ctx: skip("second"))) == skip("first")


def test_a_veto_without_a_reason_names_the_hook() -> None:
    def no(ctx: Any) -> bool:
        return False

    veto = go(at("on_before_init", no))
    assert veto is not None
    assert veto.reason.endswith("<locals>.no returned False")


def test_on_a_node_the_veto_is_logged_with_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "serve_llm_hooks")

    def no(ctx: Any) -> Skip:
        return skip("disk is full")

    async def main() -> None:
        async with Dispatcher("m", trace=None, node=Node("n1")) as dispatcher:
            await dispatcher.run_point(at("on_before_node_download", no), None)

    run(main())
    assert caplog.messages[0].startswith("model 'm', node n1: ")
    assert caplog.messages[0].endswith("no vetoed at on_before_node_download: disk is full")


# -- results that mean nothing ------------------------------------------------------------------------------------


def yes_hook(ctx: Any) -> str:
    return "yes"


async def async_yes_hook(ctx: Any) -> str:
    return "yes"


@pytest.mark.parametrize("fn", [yes_hook, async_yes_hook])
def test_yes_is_no_answer(fn: Callable[..., Any]) -> None:
    trace = Trace()
    with pytest.raises(HookResultError) as caught:
        go(at("on_before_download", fn), trace=trace)
    why = "it returned a str; a hook at on_before_download returns None or True to go on, False or skip('why') to veto"
    ref = f"{HERE}:{fn.__name__}"
    assert str(caught.value) == f"hook {ref} failed at on_before_download for model 'm': {why}"
    assert (caught.value.hook, caught.value.point, caught.value.model_id) == (ref, "on_before_download", "m")
    assert outcomes(trace) == [(fn.__name__, "failed", why)]


@pytest.mark.parametrize("veto", [False, skip("no")])
def test_a_veto_where_there_is_nothing_to_veto(veto: object) -> None:
    with pytest.raises(HookResultError) as caught:
        go(at("on_after_init", lambda ctx: veto))
    assert f"it returned {describe(veto)}; a hook at on_after_init returns None (there is nothing to veto here)" in str(
        caught.value
    )


def test_true_is_nothing_everywhere() -> None:
    assert go(at("on_after_init", lambda ctx: True)) is None


async def gives_a_generator(ctx: Any) -> Any:
    return (each for each in [ctx])


def test_a_generator_that_an_async_hook_gives_is_no_answer() -> None:
    with pytest.raises(HookResultError, match="it returned a generator;"):
        go(at("on_before_init", gives_a_generator))


@pytest.mark.parametrize(
    ("returned", "kind"), [("hf_S3cret", "a str"), (47110815, "an int"), (b"S3cret", "bytes"), (["S3cret"], "a list")]
)
def test_of_what_a_hook_returns_only_the_type_is_told(returned: object, kind: str) -> None:
    trace = Trace()
    with pytest.raises(HookResultError) as caught:
        go(at("on_before_init", lambda ctx: returned), trace=trace)
    assert f": it returned {kind}; a hook at on_before_init returns None" in str(caught.value)
    for told in (str(caught.value), str(outcomes(trace))):
        assert "S3cret" not in told
        assert "4711" not in told


# -- exceptions ---------------------------------------------------------------------------------------------------


def raises(ctx: Any) -> None:
    raise ValueError("no\n disk")


async def raises_async(ctx: Any) -> None:
    raise ValueError("no\n disk")


def exits(ctx: Any) -> None:
    sys.exit("enough")


async def exits_async(ctx: Any) -> None:
    sys.exit("enough")


def interrupts(ctx: Any) -> None:
    raise KeyboardInterrupt


def stops(ctx: Any) -> None:
    raise StopIteration


class PanicException(BaseException):
    """As a panic in Rust code is raised."""


def panics(ctx: Any) -> None:
    raise PanicException("index out of range")


async def panics_async(ctx: Any) -> None:
    raise PanicException("index out of range")


async def fails_in_a_group(ctx: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(raises_async(ctx))


async def panics_in_a_group(ctx: Any) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(panics_async(ctx))


async def cancels_its_own(ctx: Any) -> None:
    helper = asyncio.ensure_future(asyncio.sleep(3600))
    helper.cancel()
    await helper


@pytest.mark.parametrize("timeout_s", [None, 60.0])
@pytest.mark.parametrize(
    ("fn", "shown"),
    [
        (raises, "ValueError: no disk"),
        (raises_async, "ValueError: no disk"),
        (exits, "SystemExit: enough"),
        (exits_async, "SystemExit: enough"),
        (interrupts, "KeyboardInterrupt"),
        (stops, "StopIteration"),
        (panics, "PanicException: index out of range"),
        (panics_async, "PanicException: index out of range"),
        (
            fails_in_a_group,
            "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception): ValueError: no disk",
        ),
        (
            panics_in_a_group,
            "BaseExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception): PanicException: index out of range",
        ),
        (cancels_its_own, "CancelledError"),
    ],
)
def test_what_a_hook_raises_is_the_cause(fn: Callable[..., Any], shown: str, timeout_s: float | None) -> None:
    trace = Trace()
    following: list[str] = []
    hooks = at("on_before_init", fn, timeout_s=timeout_s) + at("on_before_init", following.append)
    with pytest.raises(HookError) as caught:
        go(hooks, "ctx", trace=trace)
    assert str(caught.value) == f"hook {HERE}:{fn.__name__} failed at on_before_init for model 'm': {shown}"
    assert caught.value.__cause__ is not None
    assert type(caught.value.__cause__).__name__ == shown.partition(":")[0]
    assert outcomes(trace) == [(fn.__name__, "failed", shown)]
    assert following == []


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_an_async_hook_that_interrupts_does_not_take_the_loop_of_a_replica_down(timeout_s: float | None) -> None:
    """Serve runs it in a thread of its own, where nobody can have pressed a key."""
    told: list[HookError] = []

    async def interrupts_async(ctx: Any) -> None:
        raise KeyboardInterrupt

    def replica() -> None:
        with pytest.raises(HookError) as caught:
            go(at("on_before_init", interrupts_async, timeout_s=timeout_s))
        told.append(caught.value)

    thread = threading.Thread(target=replica)
    thread.start()
    thread.join()
    assert str(told[0]).endswith("failed at on_before_init for model 'm': KeyboardInterrupt")


def test_whoever_interrupts_a_test_interrupts_it() -> None:
    async def interrupted(ctx: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(at("on_before_init", interrupted))


def closes(ctx: Any) -> None:
    raise GeneratorExit("of its own")


async def closes_async(ctx: Any) -> None:
    raise GeneratorExit("of its own")


def cancels(ctx: Any) -> None:
    raise asyncio.CancelledError("of its own")


async def cancels_async(ctx: Any) -> None:
    await asyncio.sleep(0)
    raise asyncio.CancelledError("of its own")


@pytest.mark.parametrize("timeout_s", [None, 60.0])
@pytest.mark.parametrize("fn", [closes, closes_async, cancels, cancels_async])
def test_a_hook_that_closes_or_cancels_without_being_asked_has_failed(
    fn: Callable[..., Any], timeout_s: float | None
) -> None:
    kind = "GeneratorExit" if "closes" in fn.__name__ else "CancelledError"
    trace = Trace()
    with pytest.raises(HookError, match=kind):
        go(at("on_before_init", fn, timeout_s=timeout_s), trace=trace)
    assert [event.outcome for event in trace] == ["failed"]
    assert go(at("on_before_init", fn, timeout_s=timeout_s), on_error="warn") is None


async def cancels_itself(ctx: Any) -> None:
    cancel_this_task()
    await asyncio.sleep(1)


async def cancels_itself_at_its_end(ctx: Any) -> None:
    cancel_this_task()


async def cancels_itself_later(ctx: Any) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(1, task.cancel)
    await asyncio.sleep(3600)


@pytest.mark.parametrize("timeout_s", [None, 60.0])
@pytest.mark.parametrize("fn", [cancels_itself, cancels_itself_at_its_end, cancels_itself_later])
def test_a_hook_that_cancels_its_own_task_has_failed_and_nothing_else(
    fn: Callable[..., Any], timeout_s: float | None
) -> None:
    trace = Trace()
    why = "it cancelled the task that it runs in"
    with pytest.raises(HookError, match=f"{fn.__name__} failed at on_before_init for model 'm': {why}") as caught:
        go(at("on_before_init", fn, timeout_s=timeout_s), trace=trace)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert outcomes(trace) == [(fn.__name__, "failed", why)]


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_with_warn_a_hook_that_cancels_its_own_task_lets_the_start_go_on(timeout_s: float | None) -> None:
    following: list[object] = []

    async def waits(ctx: Any) -> None:
        await asyncio.sleep(1)
        following.append(ctx)

    go(at("on_before_init", cancels_itself, timeout_s=timeout_s) + at("on_before_init", waits), "ctx", on_error="warn")
    assert following == ["ctx"]


def test_a_sync_hook_may_return_what_cancels_the_task_that_awaits_it() -> None:
    with pytest.raises(HookError, match="it cancelled the task that it runs in"):
        go(at("on_before_init", lambda ctx: cancels_itself(ctx)))


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_a_start_that_is_closed_from_outside_is_closed(timeout_s: float | None) -> None:
    """As when the event loop is gone: nobody is left to be told of a failure, and nothing may be awaited."""
    closed: list[str] = []

    async def waits(ctx: Any) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed.append("the hook")

    start = dispatch(at("on_before_init", waits, timeout_s=timeout_s))

    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(start)
        loop.run_until_complete(asyncio.sleep(0))
        loop.run_until_complete(asyncio.sleep(0))
        assert not task.done()
    finally:
        loop.close()
    start.close()
    assert closed == ["the hook"]
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio's own


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_a_hook_may_clean_up_when_the_start_is_cancelled(timeout_s: float | None) -> None:
    cleaned: list[str] = []

    async def waits(ctx: Any) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0.5)
            cleaned.append("up")

    async def main() -> None:
        task = asyncio.create_task(dispatch(at("on_before_init", waits, timeout_s=timeout_s)))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaned == ["up"]

    run(main())


def unreadable(ctx: Any) -> None:
    raise UnreadableError


async def unreadable_async(ctx: Any) -> None:
    raise UnreadableError


async def shared_groups(ctx: Any) -> None:
    raise shared(40)


async def deep_groups(ctx: Any) -> None:
    raise deep(5000)


@pytest.mark.parametrize("fn", [unreadable, unreadable_async, shared_groups, deep_groups])
def test_what_cannot_be_told_is_a_hooks_failure_too(fn: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(HookError) as caught:
        go(at("on_before_init", fn))
    assert len(str(caught.value)) < 600
    caplog.clear()
    following: list[object] = []
    go(at("on_before_init", fn) + at("on_before_init", following.append), "ctx", on_error="warn")
    assert following == ["ctx"]
    (record,) = (record for record in caplog.records if record.name == "serve_llm_hooks")
    assert len(record.getMessage()) < 600
    assert record.exc_text is None or len(record.exc_text) < 20_000


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hook_may_raise_what_cannot_be_asked(name: str) -> None:
    def raises_it(ctx: Any) -> None:
        raise HOSTILE[name]()

    async def raises_it_async(ctx: Any) -> None:
        raise HOSTILE[name]()

    for hooks in (at("on_before_init", raises_it), at("on_before_init", raises_it_async)):
        with pytest.raises(HookError, match="the text") as caught:
            go(hooks)
        assert "the text" in "".join(traceback.format_exception(caught.value))
        following: list[object] = []
        go(hooks + at("on_before_init", following.append), "ctx", on_error="warn")
        assert following == ["ctx"]


def test_a_log_that_fails_does_not_end_a_start_that_goes_on() -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise LookupError("no disk for the log")

    log, broken = logging.getLogger("serve_llm_hooks"), Broken()
    log.addHandler(broken)
    try:
        assert go(at("on_before_init", raises), on_error="warn") is None
    finally:
        log.removeHandler(broken)


def test_a_result_that_cannot_be_read() -> None:
    with pytest.raises(HookResultError, match=r"it returned an? \S*Unreadable;"):
        go(at("on_before_init", lambda ctx: Unreadable()))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_result_that_cannot_be_asked(name: str) -> None:
    async def returns_it(ctx: Any) -> Any:
        return HOSTILE[name]()

    for fn in (lambda ctx: HOSTILE[name](), returns_it):
        for point in ("on_before_init", "on_after_init"):
            with pytest.raises(HookResultError, match=r"it returned an? \S*(HostileError|Group);"):
                go(at(point, fn))


def test_hooks_before_the_failing_one_are_in_the_trace() -> None:
    trace = Trace()
    with pytest.raises(HookError):
        go(at("on_before_init", lambda ctx: None, raises, lambda ctx: None), trace=trace)
    assert [event.outcome for event in trace] == ["ok", "failed"]


def test_with_warn_a_start_that_is_cancelled_stays_so_whatever_fails_while_it_cleans_up() -> None:
    following: list[object] = []
    waits = asyncio.Event()

    async def cleans_up(ctx: Any) -> None:
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("cannot unmount")

    async def cancelled() -> None:
        hooks = at("on_before_init", cleans_up, on_error="warn") + at("on_before_init", following.append)
        start = asyncio.ensure_future(dispatch(hooks))
        await waits.wait()
        start.cancel()
        with pytest.raises(HookError, match="cannot unmount"):
            await start

    run(cancelled())
    assert following == []


def test_with_warn_a_hook_whose_own_affair_was_cancelled_is_no_cancelled_start() -> None:
    following: list[object] = []
    go(at("on_before_init", cancels_its_own, on_error="warn") + at("on_before_init", following.append), "ctx")
    assert following == ["ctx"]


@pytest.mark.parametrize("where", ["hook", "config"])
@pytest.mark.parametrize("fn", [raises, raises_async])
def test_with_warn_the_start_goes_on(fn: Callable[..., Any], where: str, caplog: pytest.LogCaptureFixture) -> None:
    trace = Trace()
    following: list[object] = []

    def last(ctx: object) -> None:
        following.append(ctx)

    warn: OnError = "warn"
    hooks = at("on_before_init", fn, on_error=warn if where == "hook" else None) + at("on_before_init", last)
    assert go(hooks, "ctx", trace=trace, on_error=warn if where == "config" else "raise") is None
    assert outcomes(trace) == [(fn.__name__, "warned", "ValueError: no disk"), ("last", "ok", "")]
    assert following == ["ctx"]
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage() == (
        f"hook {HERE}:{fn.__name__} failed at on_before_init for model 'm': ValueError: no disk "
        "(on_error='warn': going on)"
    )
    assert record.exc_info is not None
    assert "raise ValueError" in "".join(traceback.format_exception(record.exc_info[1]))


def test_a_hooks_own_raise_wins_over_the_configs_warn() -> None:
    with pytest.raises(HookError):
        go(at("on_before_init", raises, on_error="raise"), on_error="warn")


# -- timeouts -----------------------------------------------------------------------------------------------------


async def waits_for_ever(ctx: Any) -> None:
    await asyncio.Event().wait()


def test_an_async_hook_that_takes_too_long() -> None:
    trace = Trace()
    with pytest.raises(HookTimeoutError) as caught:
        go(at("on_before_init", waits_for_ever, timeout_s=0.5), trace=trace)
    why = "still running after timeout_s=0.5"
    assert str(caught.value) == f"hook {HERE}:waits_for_ever failed at on_before_init for model 'm': {why}"
    assert outcomes(trace) == [("waits_for_ever", "timed_out", why)]
    # Our own machinery is not what the reader looks for.
    assert "_TimedOut" not in "".join(traceback.format_exception(caught.value))


def test_a_blocking_hook_that_takes_too_long_and_the_ones_after_it() -> None:
    trace = Trace()
    free, ended = threading.Event(), threading.Event()
    seen: list[str] = []
    why = "still running after timeout_s=0.01"

    def blocks(ctx: Any) -> None:
        free.wait(10)
        ended.set()

    def following(ctx: Any) -> None:
        seen.append("following")

    async def main() -> None:
        async with Dispatcher("m", trace=trace, on_error="warn") as dispatcher:
            hooks = at("on_before_init", blocks, timeout_s=0.01) + at("on_before_init", following)
            await dispatcher.run_point(hooks, None)
            with pytest.raises(HookTimeoutError) as caught:
                await dispatcher.run_point(at("on_after_init", blocks, timeout_s=0.01, on_error="raise"), None)
            assert str(caught.value).endswith("blocks failed at on_after_init for model 'm': " + why)

    asyncio.run(main())  # in real time: the hook blocks a real thread
    expected = [("blocks", "warned", why), ("following", "ok", ""), ("blocks", "timed_out", why)]
    assert outcomes(trace) == expected
    assert seen == ["following"]
    free.set()
    assert ended.wait(10)
    assert outcomes(trace) == expected  # what the thread says later is heard by nobody


def test_a_blocking_hook_that_takes_too_long_needs_no_trace_for_that() -> None:
    free = threading.Event()

    def blocks(ctx: Any) -> None:
        free.wait(10)

    with pytest.raises(HookTimeoutError, match=r"still running after timeout_s=0\.01"):
        asyncio.run(dispatch(at("on_before_init", blocks, timeout_s=0.01)))
    free.set()


@pytest.mark.parametrize("fn", [lambda ctx: None, lambda ctx: skip("early")])
def test_a_hook_within_its_timeout(fn: Callable[..., Any]) -> None:
    async def fn_async(ctx: Any) -> Any:
        await asyncio.sleep(59)
        return fn(ctx)

    assert go(at("on_before_init", fn, timeout_s=60.0)) == fn(None)
    assert go(at("on_before_init", fn_async, timeout_s=60.0)) == fn(None)


def test_a_hook_that_will_not_be_cancelled_is_left_behind() -> None:
    async def stubborn(ctx: Any) -> None:
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                if ctx.released:
                    raise

    ctx = SimpleNamespace(released=False)

    async def main() -> float:
        loop = asyncio.get_running_loop()
        with pytest.raises(HookTimeoutError):
            await dispatch(at("on_before_init", stubborn, timeout_s=5.0), ctx)
        took_s = loop.time()
        ctx.released = True  # or the loop could not be closed
        return took_s

    assert run(main()) == pytest.approx(6)


def test_with_warn_a_timeout_goes_on() -> None:
    trace = Trace()
    go(at("on_before_init", waits_for_ever, timeout_s=1.0, on_error="warn"), trace=trace)
    assert outcomes(trace) == [("waits_for_ever", "warned", "still running after timeout_s=1")]


# -- being cancelled ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout_s", [None, 60.0])
def test_a_start_that_is_cancelled_cancels_its_async_hook(timeout_s: float | None) -> None:
    trace = Trace()
    ended: list[str] = []

    async def waits(ctx: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cleaned up")

    async def main() -> None:
        task = asyncio.create_task(dispatch(at("on_before_init", waits, timeout_s=timeout_s), trace=trace))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert ended == ["cleaned up"]  # here, and not because the loop is closed

    run(main())
    assert outcomes(trace) == [("waits", "cancelled", "")]


@pytest.mark.parametrize("timeout_s", [None, 60.0])
@pytest.mark.parametrize("returned_by_a_sync_hook", [False, True])
def test_a_hook_that_catches_its_cancellation_to_clean_up_does_not_undo_it(
    timeout_s: float | None, returned_by_a_sync_hook: bool
) -> None:
    trace = Trace()
    seen: list[str] = []

    async def polite(ctx: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            seen.append("cleaned up")

    def following(ctx: Any) -> None:
        seen.append("the start goes on")

    first = (lambda ctx: polite(ctx)) if returned_by_a_sync_hook else polite
    hooks = at("on_before_init", first, timeout_s=timeout_s) + at("on_before_init", following)

    async def main() -> None:
        task = asyncio.create_task(dispatch(hooks, trace=trace))
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()

    run(main())
    assert seen == ["cleaned up"]
    assert [event.outcome for event in trace] == ["cancelled"]


def test_a_start_that_was_cancelled_before_and_goes_on_has_hooks_that_end_well() -> None:
    trace = Trace()

    async def hook(ctx: Any) -> None:
        await asyncio.sleep(1)

    async def goes_on() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await dispatch(at("on_before_init", hook), trace=trace)

    async def main() -> None:
        task = asyncio.create_task(goes_on())
        await asyncio.sleep(1)
        task.cancel()
        await task

    run(main())
    assert [event.outcome for event in trace] == ["ok"]


def test_a_start_that_is_cancelled_lets_its_sync_hook_end_and_starts_no_other() -> None:
    started, free, ended = threading.Event(), threading.Event(), threading.Event()
    following: list[object] = []

    def blocks(ctx: Any) -> None:
        started.set()
        free.wait(10)
        ended.set()

    async def main() -> None:
        worker_is_idle = asyncio.Event()
        async with Dispatcher("m", trace=None) as dispatcher:
            task = asyncio.create_task(dispatcher.run_point(at("on_before_init", blocks, following.append), "ctx"))
            await asyncio.to_thread(started.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            free.set()
            # The one thread is free for this only when it is done with the cancelled run.
            await dispatcher.run_point(at("on_failure", lambda ctx: worker_is_idle.set()), None)
            assert worker_is_idle.is_set()

    asyncio.run(main())
    assert ended.is_set()
    assert following == []


def test_a_sync_hook_that_had_not_started_when_its_start_was_cancelled_never_does() -> None:
    started, free = threading.Event(), threading.Event()
    queued: list[object] = []

    def blocks(ctx: Any) -> None:
        started.set()
        free.wait(10)

    async def main() -> None:
        async with Dispatcher("m", trace=None) as dispatcher:
            first = asyncio.create_task(dispatcher.run_point(at("on_before_init", blocks), None))
            await asyncio.to_thread(started.wait, 10)
            second = asyncio.create_task(dispatcher.run_point(at("on_before_init", queued.append), "ctx"))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            free.set()
            await first
            await dispatcher.run_point(at("on_after_init", lambda ctx: None), None)

    asyncio.run(main())
    assert queued == []


# -- the worker thread --------------------------------------------------------------------------------------------


def test_the_worker_hands_on_what_a_call_returns_or_raises() -> None:
    worker = WorkerThread()
    assert worker.submit(divmod, 7, 2).result(10) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        worker.submit(divmod, 7, 0).result(10)
    worker.shutdown()


def test_a_worker_that_had_nothing_to_do_has_no_thread() -> None:
    before = threading.active_count()
    WorkerThread().shutdown()
    assert threading.active_count() == before
