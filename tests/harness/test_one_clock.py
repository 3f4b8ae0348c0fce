"""One clock for all: ``time``, ``asyncio`` and waiting for threads go with virtual time, in a run's threads only."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime, timedelta
from time import monotonic as bound_monotonic, sleep as bound_sleep
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, strategies as st

from serve_llm_hooks import HookError, HookRegistry, HookTimeoutError
from serve_llm_hooks_testing import DeadlockError, FakeCluster, FakeLLMConfig, HarnessWarning, call_hook, node_ctx

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks import CallbackCtx, NodeCtx
    from serve_llm_hooks_testing import FakeRun


def start(hook: Callable[..., Any], point: Any = "on_before_init", *, check: bool = True, **settings: Any) -> FakeRun:
    """Start a replica that has this hook; only what the hook waits for takes time."""
    hooks = HookRegistry()
    decorate: Callable[..., Any] = hooks.hook
    decorate(point, timeout_s=settings.pop("timeout_s", None))(hook)
    settings = {"nodes": 1, "download_s": 0, "engine_start_s": 0, **settings}
    return FakeCluster(**settings).run(FakeLLMConfig("m", hooks=[hooks]), check=check)


def noted(run: FakeRun) -> dict[str, Any]:
    """Return what hooks left in the replica's ``custom_data``."""
    assert run.ctx is not None
    return run.ctx.custom_data


CLOCKS = ("time", "monotonic", "perf_counter")


@pytest.mark.parametrize("name", CLOCKS)
def test_a_sync_hook_that_sleeps_takes_virtual_time_on_every_clock(name: str) -> None:
    def back_off(ctx: CallbackCtx) -> None:
        clock, clock_ns = getattr(time, name), getattr(time, f"{name}_ns")
        begun_s, begun_ns = clock(), clock_ns()
        for attempt in range(5):
            time.sleep(2**attempt)
        ctx.custom_data["took"] = (clock() - begun_s, (clock_ns() - begun_ns) / 1e9)

    run = start(back_off)
    assert noted(run)["took"] == (31, 31)
    assert run.elapsed_s == 31
    assert [event.duration_s for event in run.trace] == [31]
    assert run.notes == ()


def test_names_that_a_module_has_bound_before_the_run_work_as_well() -> None:
    def polls(ctx: CallbackCtx) -> None:
        begun_s = bound_monotonic()
        while bound_monotonic() < begun_s + 10:
            bound_sleep(0.5)
        ctx.custom_data["took"] = bound_monotonic() - begun_s

    run = start(polls)
    assert noted(run)["took"] == run.elapsed_s == 10


def test_names_that_a_hooks_module_binds_in_the_run_work_as_well(module: Callable[[str, str], str]) -> None:
    name = module(
        "binds_names",
        """
        from time import monotonic, sleep

        @hook("on_before_init")
        def polls(ctx):
            begun_s = monotonic()
            sleep(3)
            ctx.custom_data["took"] = monotonic() - begun_s
        """,
    )
    for _ in range(2):
        run = FakeCluster(engine_start_s=0, download_s=0).run(FakeLLMConfig("m", hooks=[name]))
        assert noted(run)["took"] == run.elapsed_s == 3


def test_the_clocks_are_the_systems_again_after_a_run() -> None:
    before = {name: getattr(time, name) for name in (*CLOCKS, "sleep")}
    wait_before = threading.Condition.wait, threading.Thread.start, ThreadPoolExecutor.submit
    start(lambda ctx: time.sleep(1))
    assert {name: getattr(time, name) for name in before} == before
    assert (threading.Condition.wait, threading.Thread.start, ThreadPoolExecutor.submit) == wait_before
    assert bound_monotonic is time.monotonic


def test_clocks_do_not_go_back_when_a_run_begins() -> None:
    before = {name: getattr(time, name)() for name in CLOCKS}

    def look(ctx: CallbackCtx) -> None:
        ctx.custom_data.update({name: getattr(time, name)() - before[name] for name in CLOCKS})

    assert all(0 <= difference < 60 for difference in noted(start(look)).values())


def test_other_threads_of_the_test_see_the_systems_clocks() -> None:
    seen: list[tuple[bool, float]] = []
    ask, answered = queue.SimpleQueue[bool](), threading.Event()

    def look() -> None:
        ask.get()
        begun_s = time.perf_counter()
        time.sleep(0.001)
        seen.append((time.perf_counter() - begun_s >= 0.001, time.monotonic()))
        answered.set()

    thread = threading.Thread(target=look)
    thread.start()

    def ask_the_thread() -> None:
        ask.put(True)
        answered.wait()

    _ask.append(ask_the_thread)
    start(_sleep_and_ask)
    thread.join()
    assert seen[0][0]
    assert seen[0][1] < time.monotonic() + 1


_ask: list[Callable[[], None]] = []


def _sleep_and_ask(ctx: CallbackCtx) -> None:
    time.sleep(10_000)
    _ask[-1]()


def test_runs_at_once_have_clocks_of_their_own() -> None:
    def runs(seconds: float) -> Any:
        def hook(ctx: CallbackCtx) -> None:
            begun_s = time.monotonic()
            for _ in range(10):
                time.sleep(seconds)
            ctx.custom_data["took"] = time.monotonic() - begun_s

        return noted(start(hook))["took"]

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(runs, (1, 2, 30, 400))) == [10, 20, 300, 4000]


@pytest.mark.parametrize("seconds", [-1, float("nan"), "1", None])
def test_what_is_no_length_of_time_is_told_as_ever(seconds: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as outside:
        time.sleep(seconds)
    with pytest.raises(HookError) as inside:
        start(lambda ctx: time.sleep(seconds))
    assert type(inside.value.__cause__) is type(outside.value)


def test_an_async_hook_that_sleeps_blocks_its_loop_and_is_told() -> None:
    async def blocks(ctx: CallbackCtx) -> None:
        late: list[float] = []
        loop = asyncio.get_running_loop()
        loop.call_later(1, lambda: late.append(loop.time()))
        for _ in range(2):
            time.sleep(2.5)
        await asyncio.sleep(0)
        ctx.custom_data["late"] = late

    with pytest.warns(HarnessWarning, match=r"blocks \(at .*\) blocks the event loop, for more than 1 s: time.sleep"):
        run = start(blocks)
    assert noted(run)["late"] == [5]
    assert len(run.notes) == 1


def test_a_hook_that_is_called_alone_sleeps_in_virtual_time() -> None:
    @HookRegistry().hook("on_after_node_download", timeout_s=100)
    def polls(ctx: NodeCtx) -> None:
        until_s = time.monotonic() + 99
        while time.monotonic() < until_s:
            time.sleep(1)

    call_hook(polls, node_ctx())


def test_a_short_sleep_in_an_async_hook_is_not_told() -> None:
    async def blinks(ctx: CallbackCtx) -> None:
        time.sleep(0.05)

    run = start(blinks)
    assert run.notes == ()
    assert run.elapsed_s == 0.05


def test_a_sync_hooks_timeout_fires_while_it_sleeps() -> None:
    def sleeps(ctx: CallbackCtx) -> None:
        time.sleep(60)

    run = start(sleeps, timeout_s=5, check=False)
    assert isinstance(run.error, HookTimeoutError)
    assert run.elapsed_s == 5


def test_nodes_that_sleep_do_so_at_the_same_time() -> None:
    def unpack(ctx: NodeCtx) -> None:
        time.sleep(4 if ctx.is_local else 7)

    run = start(unpack, "on_after_node_download", nodes=4)
    assert run.elapsed_s == 7


def test_more_nodes_than_there_are_threads_sleep_in_turn_and_end() -> None:
    def unpack(ctx: NodeCtx) -> None:
        time.sleep(1)

    assert start(unpack, "on_after_node_download", nodes=100).elapsed_s in (1, 2)


# -- progress ---------------------------------------------------------------------------------------------------------


@given(
    seconds=st.lists(st.floats(min_value=0, max_value=1e6), min_size=1, max_size=5),
    before_s=st.floats(min_value=0, max_value=1e9),
)
def test_code_that_waits_for_a_deadline_of_its_own_comes_to_it(seconds: list[float], before_s: float) -> None:
    from serve_llm_hooks_testing import VirtualLoop

    async def wait_until() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(before_s)
        deadline = loop.time()
        for each in seconds:
            deadline += each
        for _ in range(10):
            if loop.time() >= deadline:
                return
            await asyncio.sleep(deadline - loop.time())
        raise AssertionError(f"at {loop.time()!r}, {deadline!r} is never reached")

    loop = VirtualLoop()
    try:
        loop.run_until_complete(wait_until())
    finally:
        loop.finish()


def test_the_issues_own_loop_ends() -> None:
    async def waits(ctx: CallbackCtx) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + 0.1 + 0.2
        while loop.time() < deadline:
            await asyncio.sleep(deadline - loop.time())

    assert start(waits).elapsed_s == pytest.approx(0.3, abs=1e-12)


def test_anyios_timeouts_fire_after_a_sleep() -> None:
    anyio = pytest.importorskip("anyio", reason="comes with Ray's HTTP libraries, and not with the light tools")

    async def waits(ctx: CallbackCtx) -> None:
        await anyio.sleep(0.1)
        with anyio.move_on_after(0.2) as scope:
            await anyio.sleep(10)
        ctx.custom_data["cancelled"] = scope.cancelled_caught

    run = start(waits)
    assert noted(run) == {"cancelled": True}
    assert run.elapsed_s == pytest.approx(0.3, abs=1e-12)


def test_timers_that_are_due_together_fire_in_the_order_in_which_they_were_made() -> None:
    async def makes_timers(ctx: CallbackCtx) -> None:
        seen: list[int] = []
        loop = asyncio.get_running_loop()
        for number in range(50):
            loop.call_later(1, seen.append, number)
            loop.call_later(0.5, loop.call_later, 0.5, seen.append, 50 + number)
        await asyncio.sleep(2)
        ctx.custom_data["seen"] = seen

    assert noted(start(makes_timers))["seen"] == list(range(100))


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_code_that_only_looks_at_the_clock_comes_to_an_end(kind: str) -> None:
    def spins(ctx: CallbackCtx) -> None:
        until_s = time.monotonic() + 0.02
        while time.monotonic() < until_s:
            pass

    async def yields(ctx: CallbackCtx) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + 0.02
        while loop.time() < until_s:
            await asyncio.sleep(0)

    assert start(spins if kind == "sync" else yields).elapsed_s >= 0.02


# -- waiting for threads ----------------------------------------------------------------------------------------------


def test_threads_of_a_hook_sleep_in_virtual_time() -> None:
    def starts_threads(ctx: CallbackCtx) -> None:
        threads = [threading.Thread(target=time.sleep, args=(seconds,)) for seconds in (3, 1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert start(starts_threads).elapsed_s == 3


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_pools_sleep_in_virtual_time(kind: str) -> None:
    def works(ctx: CallbackCtx) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(time.sleep, (3, 1, 2)))

    async def blocks(ctx: CallbackCtx) -> None:
        works(ctx)

    run = start(works if kind == "sync" else blocks, real_sleep_limit_s=10)
    assert run.elapsed_s == 3
    assert run.notes == ()


@pytest.mark.parametrize(("timeout_s", "ended"), [(10, False), (90, True)])
def test_a_thread_is_waited_for_as_long_as_the_hook_says(timeout_s: float, ended: bool) -> None:
    def joins(ctx: CallbackCtx) -> None:
        thread = threading.Thread(target=time.sleep, args=(60,))
        thread.start()
        thread.join(timeout_s)
        ctx.custom_data["ended"] = not thread.is_alive()

    run = start(joins)
    assert noted(run) == {"ended": ended}
    assert run.elapsed_s == (60 if ended else 10)


def test_a_lock_is_waited_for_while_its_holder_sleeps() -> None:
    def locks(ctx: CallbackCtx) -> None:
        lock, held = threading.Lock(), threading.Event()

        def hold() -> None:
            with lock:
                held.set()
                time.sleep(5)

        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        with lock:
            pass
        thread.join()

    assert start(locks).elapsed_s == 5


def test_a_condition_may_be_notified_and_time_out() -> None:
    def waits(ctx: CallbackCtx) -> None:
        condition, seen = threading.Condition(), list[bool]()

        def notify() -> None:
            time.sleep(3)
            with condition:
                condition.notify_all()

        threading.Thread(target=notify).start()
        with condition:
            seen.append(condition.wait(10))
            seen.append(condition.wait(10))
            seen.append(condition.wait_for(lambda: False, timeout=10))
        ctx.custom_data["seen"] = seen

    run = start(waits)
    assert noted(run) == {"seen": [True, False, False]}
    assert run.elapsed_s == 23


def test_an_event_is_waited_for_in_virtual_time() -> None:
    def beats_in_a_thread(ctx: CallbackCtx) -> None:
        stop, beats = threading.Event(), list[float]()

        def beat() -> None:
            while not stop.wait(2):
                beats.append(time.monotonic())

        begun_s = time.monotonic()
        thread = threading.Thread(target=beat)
        thread.start()
        time.sleep(9)
        stop.set()
        thread.join()
        ctx.custom_data["beats"] = [beat_s - begun_s for beat_s in beats]

    run = start(beats_in_a_thread)
    assert noted(run)["beats"] == [2, 4, 6, 8]
    assert run.elapsed_s == 9


@pytest.mark.parametrize("fills_after_s", [4, None])
def test_a_queue_is_waited_for_in_virtual_time(fills_after_s: float | None) -> None:
    def reads(ctx: CallbackCtx) -> None:
        filled: queue.Queue[str] = queue.Queue()

        def fill(after_s: float) -> None:
            time.sleep(after_s)
            filled.put("full")

        if fills_after_s is not None:
            threading.Thread(target=fill, args=(fills_after_s,)).start()
        try:
            ctx.custom_data["got"] = filled.get(timeout=10)
        except queue.Empty:
            ctx.custom_data["got"] = "empty"

    run = start(reads)
    assert (noted(run)["got"], run.elapsed_s) == (("full", 4) if fills_after_s else ("empty", 10))


def test_futures_are_waited_for_in_virtual_time() -> None:
    def works(ctx: CallbackCtx) -> None:
        with ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(time.sleep, seconds) for seconds in (1, 60)]
            done, left = wait(jobs, timeout=5)
            ctx.custom_data["done"] = (len(done), len(left))
            with pytest.raises(TimeoutError):
                jobs[1].result(timeout=5)

    run = start(works)
    assert noted(run)["done"] == (1, 1)
    assert run.elapsed_s == 60


def test_an_event_loop_in_a_thread_goes_with_virtual_time() -> None:
    async def starts_a_loop(ctx: CallbackCtx) -> None:
        seen: list[float] = []
        begun_s = time.monotonic()

        async def tick() -> None:
            for _ in range(3):
                await asyncio.sleep(5)
                seen.append(time.monotonic() - begun_s)

        thread = threading.Thread(target=lambda: asyncio.run(tick()))
        thread.start()
        await asyncio.sleep(12)
        seen.append(time.monotonic() - begun_s)
        await asyncio.to_thread(thread.join)
        ctx.custom_data["seen"] = seen

    run = start(starts_a_loop)
    assert noted(run)["seen"] == [5, 10, 12, 15]
    assert run.elapsed_s == 15


def test_so_does_one_that_runs_for_ever_and_is_given_work() -> None:
    def gives_work(ctx: CallbackCtx) -> None:
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        nap = asyncio.run_coroutine_threadsafe(asyncio.sleep(4, "rested"), loop)
        ctx.custom_data["result"] = nap.result(timeout=10)
        time.sleep(100)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    run = start(gives_work)
    assert noted(run) == {"result": "rested"}
    assert run.elapsed_s == 104


_done = threading.Event()


def test_an_event_that_another_thread_of_the_test_sets_is_waited_for() -> None:
    """Threads that are in no run get their time before a wait is over."""

    def waits(ctx: CallbackCtx) -> None:
        ctx.custom_data["set"] = _wait_for_done()

    _done.clear()
    timer = threading.Timer(0.01, _done.set)
    timer.start()
    run = start(waits)
    timer.join()
    assert noted(run)["set"] is True
    assert run.elapsed_s == 0


def _wait_for_done() -> bool:
    return _done.wait(timeout=5)


# -- a start that never ends ------------------------------------------------------------------------------------------


def test_a_start_in_which_only_a_heartbeat_goes_on_is_a_deadlock() -> None:
    async def waits_for_ever(ctx: CallbackCtx) -> None:
        async def beat() -> None:
            while True:
                await asyncio.sleep(10)

        beating = asyncio.create_task(beat())
        await asyncio.Event().wait()
        beating.cancel()

    says = "not ended within 500 virtual seconds.*time_limit_s.*Waiting: .*waits_for_ever.*beat"
    with pytest.raises(DeadlockError, match=says):
        start(waits_for_ever, time_limit_s=500)
    assert start(waits_for_ever, check=False).elapsed_s == 36_000


def test_so_is_one_whose_hook_polls_for_ever() -> None:
    def polls(ctx: CallbackCtx) -> None:
        while not ctx.custom_data.get("ready"):
            time.sleep(1)

    with pytest.raises(DeadlockError, match=r"not ended within 300 virtual seconds.*Waiting: hook .*polls"):
        start(polls, time_limit_s=300)


def test_a_hook_that_waits_for_the_clock_of_datetime_is_told_which_goes() -> None:
    def waits(ctx: CallbackCtx) -> None:
        end = datetime.now(tz=UTC) + timedelta(seconds=60)
        while datetime.now(tz=UTC) < end:
            time.sleep(5)

    says = r"datetime.now\(\): that does not go with virtual time, and time.time\(\) does"
    with pytest.raises(DeadlockError, match=says):
        start(waits, time_limit_s=300)


# -- the engine -------------------------------------------------------------------------------------------------------


def test_a_starting_engine_blocks_the_replicas_loop_and_no_thread() -> None:
    async def goes_on(ctx: CallbackCtx) -> None:
        loop, begun_s = asyncio.get_running_loop(), time.monotonic()
        in_loop: list[float] = []
        in_thread: list[float] = []

        async def tick() -> None:
            for _ in range(3):
                await asyncio.sleep(8)
                in_loop.append(loop.time())

        def tick_in_thread() -> None:
            for _ in range(3):
                time.sleep(8)
                in_thread.append(time.monotonic() - begun_s)

        ctx.custom_data["ticking"] = asyncio.create_task(tick())
        threading.Thread(target=tick_in_thread).start()
        ctx.custom_data["ticks"] = (in_loop, in_thread)

    run = start(goes_on, "on_before_engine_init", engine_start_s=30)
    assert run.elapsed_s == 30
    in_loop, in_thread = noted(run)["ticks"]
    assert in_thread == [8, 16, 24]
    assert in_loop == [] or min(in_loop) >= 30


@pytest.mark.filterwarnings("ignore::serve_llm_hooks_testing.HarnessWarning")  # that it blocks the event loop
def test_an_async_hook_that_sleeps_for_ever_is_ended(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init")
    async def wait_for_a_lock(ctx: CallbackCtx) -> None:
        while True:
            time.sleep(1)

    run = FakeCluster(nodes=1, time_limit_s=100).run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert "has not ended within 100 virtual seconds" in str(run.error)
