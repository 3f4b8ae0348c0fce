"""``FakeCluster(processes="nodes")``: each node's work in a process of its own, in the same virtual time."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings, strategies as st

from serve_llm_hooks import HookError, HookRegistry, NodeInitializationError
from serve_llm_hooks_testing import (
    FakeCluster,
    FakeLLMConfig,
    HarnessError,
    HarnessWarning,
    different_path,
    failing_download,
    lost_node,
    missing_module,
    replica_dies,
    slow_download,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks import CallbackCtx, NodeCtx
    from serve_llm_hooks_testing import FakeRun

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")


def start(*hooks: Any, check: bool = True, runtime_env: dict[str, Any] | None = None, **settings: Any) -> FakeRun:
    cluster = FakeCluster(**{"processes": "nodes", **settings})
    return cluster.run(FakeLLMConfig("m", hooks=list(hooks), runtime_env=runtime_env), check=check)


def told(run: FakeRun) -> dict[str, Any]:
    """Return what the nodes have put into ``custom_data``."""
    assert run.ctx is not None
    return {node_id: node.custom_data for node_id, node in run.ctx.nodes.items()}


def test_each_node_is_a_process(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def tell(ctx: NodeCtx) -> None:
        ctx.custom_data["pid"] = os.getpid()
        ctx.custom_data["in the main thread"] = threading.current_thread() is threading.main_thread()

    run = start(hooks)
    ids = [data["pid"] for data in told(run).values()]
    assert len({os.getpid(), *ids}) == 4
    assert [event.process_id for event in run.trace] == ids


def test_what_is_left_in_a_module_stays_in_its_process(module: Callable[[str, str], str]) -> None:
    name = module(
        "leaves_much_behind",
        """
        import functools, os, sys, threading
        seen, local = [], threading.local()

        @functools.lru_cache
        def where(): return os.getpid()

        @hook("on_before_init")
        def in_replica(ctx):
            seen.append("replica")
            local.value = "replica"
            where()
            os.environ["LEFT_BEHIND"] = "replica"

        @hook("on_before_node_download")
        def on_node(ctx, kept=[]):
            seen.append(ctx.node_id)
            kept.append(ctx.node_id)
            ctx.custom_data["seen"] = [*seen]
            ctx.custom_data["kept"] = [*kept]
            ctx.custom_data["cached"] = where() == os.getpid()
            ctx.custom_data["local"] = getattr(local, "value", None)
            ctx.custom_data["variable"] = os.environ.get("LEFT_BEHIND")
            sys.path.append("/" + ctx.node_id)
            ctx.custom_data["path"] = [entry for entry in sys.path if entry.startswith("/node-")]

        @hook("on_after_init")
        def at_the_end(ctx):
            ctx.custom_data["seen"] = [*seen]
            del os.environ["LEFT_BEHIND"]
        """,
    )
    run = start(name)
    assert told(run) == {
        node_id: {"seen": [node_id], "kept": [node_id], "cached": True, "local": None, "variable": None}
        | {"path": [f"/{node_id}"]}
        for node_id in run.nodes
    }
    assert run.ctx is not None
    assert run.ctx.custom_data["seen"] == ["replica"]


def test_the_replica_stays_in_the_tests_process(hooks: HookRegistry) -> None:
    seen = []

    @hooks.hook("on_before_init")
    def append(ctx: CallbackCtx) -> None:
        seen.append(ctx)

    assert seen == [start(hooks).ctx]


def test_a_node_has_a_folder_of_its_own_and_the_replicas_has_the_replicas(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def write(ctx: NodeCtx) -> None:
        ctx.custom_data["folder"] = os.getcwd()
        with open(f"written-by-{ctx.node_id}", "w"):
            ctx.custom_data["files"] = [name for name in os.listdir() if name.startswith("written-by")]

    run = start(hooks)
    os.remove("written-by-node-0")
    assert [data["files"] for data in told(run).values()] == [[f"written-by-{node_id}"] for node_id in run.nodes]
    assert told(run)["node-0"]["folder"] == os.getcwd()
    assert not os.path.exists(told(run)["node-1"]["folder"])


def test_what_a_test_sets_reaches_a_process(
    hooks: HookRegistry, monkeypatch: pytest.MonkeyPatch, module: Callable[[str, str], str]
) -> None:
    module("somewhere_else", "VALUE = 3")  # the fixture has put its folder into sys.path
    monkeypatch.setenv("FROM_THE_TEST", "yes")

    @hooks.hook("on_before_node_download")
    def tell(ctx: NodeCtx) -> None:
        import somewhere_else  # type: ignore[import-not-found]  # the test writes it

        ctx.custom_data["told"] = [os.environ["FROM_THE_TEST"], os.environ["FROM_THE_CONFIG"], somewhere_else.VALUE]

    run = start(hooks, runtime_env={"env_vars": {"FROM_THE_CONFIG": "too"}})
    assert [data["told"] for data in told(run).values()] == [["yes", "too", 3]] * 3
    assert "FROM_THE_CONFIG" not in os.environ


def test_setup_is_called_in_each_process(module: Callable[[str, str], str]) -> None:
    name = module(
        "asks_a_client",
        """
        def client(): raise OSError("no network in tests")

        @hook("on_before_node_download")
        def ask(ctx): ctx.custom_data["answer"] = client()
        """,
    )

    def replace_client() -> None:
        import asks_a_client  # type: ignore[import-not-found]  # the test writes it

        asks_a_client.client = lambda: "from the setup"

    run = start(name, setup=replace_client)
    assert [data["answer"] for data in told(run).values()] == ["from the setup"] * 3


def test_a_setup_that_fails_says_so(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def hook(ctx: NodeCtx) -> None: ...

    def wrong() -> None:
        raise SystemExit("this setup is wrong")

    with pytest.raises(NodeInitializationError) as raised:
        start(hooks, setup=wrong, check=False)
    (one, *_) = raised.value.exceptions
    assert isinstance(one, HarnessError)
    assert "setup= failed in the process of node node-0" in str(one)
    assert "this setup is wrong" in str(one)


REPLACED = """
    import shutil
    def client(): return "real"

    @hook("on_before_node_download")
    def ask(ctx): ctx.custom_data["answer"] = client()
"""


@pytest.mark.parametrize("processes", ["nodes", True])
@pytest.mark.parametrize("name", ["client", "shutil", "shutil.disk_usage"])
def test_what_is_replaced_in_the_tests_process_only_is_told(
    module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch, name: str, processes: Any
) -> None:
    hooks_module = module("is_replaced", REPLACED)
    monkeypatch.setattr(f"{hooks_module}.{name}", lambda: "fake")
    with pytest.warns(HarnessWarning, match=rf"{name}: replaced in the test's process .*setup="):
        start(hooks_module, processes=processes)


def test_what_is_replaced_in_both_is_not_told(
    module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module("is_replaced_twice", REPLACED)

    def setup() -> None:
        import is_replaced_twice  # type: ignore[import-not-found]  # the test writes it

        is_replaced_twice.client = lambda: "fake"

    monkeypatch.setattr(f"{name}.client", lambda: "fake")
    run = start(name, setup=setup)
    assert run.notes == ()
    assert [data["answer"] for data in told(run).values()] == ["fake"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"processes": "node"}, "processes= is False, True or 'nodes', not"),
        ({"processes": "nodes", "setup": 3}, "setup= is a function without parameters"),
        ({"setup": print}, "use monkeypatch"),
        ({"hang_s": 0}, "hang_s is a positive number"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        FakeCluster(**arguments)


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(HarnessError, match="only Linux can, and this is 'win32': leave processes= out"):
        start()


# -- the same time ----------------------------------------------------------------------------------------------------

_DELAYS = st.lists(st.integers(0, 12), min_size=3, max_size=3)


@settings(max_examples=12, deadline=None)
@given(
    before=_DELAYS,
    after=_DELAYS,
    breaks=st.none() | st.integers(0, 2),
    fault=st.sampled_from(
        [
            None,
            slow_download("node-1", 7),
            failing_download("node-2", after_s=3),
            lost_node("node-1"),
            lost_node("node-2", at="on_after_node_download"),
            different_path("node-1", "/elsewhere"),
            replica_dies(at="on_after_download"),
        ]
    ),
    timeout_s=st.sampled_from([15.5, 3600]),
)
def test_a_run_is_the_same_as_in_one_process(
    before: list[int], after: list[int], breaks: int | None, fault: Any, timeout_s: float
) -> None:
    hooks = HookRegistry()

    @hooks.hook("on_before_node_download")
    async def wait(ctx: NodeCtx) -> None:
        await asyncio.sleep(before[int(ctx.node_id[-1])] + 0.25)

    @hooks.hook("on_after_node_download", timeout_s=9)
    async def wait_again(ctx: NodeCtx) -> None:
        number = int(ctx.node_id[-1])
        await asyncio.sleep(after[number] + 0.125)
        if number == breaks:
            raise OSError("breaks")

    def told(processes: Any) -> Any:
        faults = [] if fault is None else [fault]
        run = start(
            hooks,
            check=False,
            processes=processes,
            faults=faults,
            node_timeout_s=timeout_s,
            node_grace_s=4.0625,
            download_s=6,
        )
        events = [event._replace(process_id=0) for event in run.trace]
        nodes = [(node.tasks, node.downloaded, node.path) for node in run.nodes.values()]
        return events, nodes, str(run.error), run.elapsed_s, run.unstruck, run.notes, len(run.earlier_starts)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = told(False)
        assert told("nodes") == expected
        assert told(True) == expected


def test_nodes_that_are_cancelled_clean_up_and_those_that_refuse_are_ended(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    async def hook(ctx: NodeCtx) -> None:
        if ctx.node_id == "node-0":
            raise OSError("breaks")
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            print(ctx.node_id, "cleans up")
            await asyncio.sleep(1 if ctx.node_id == "node-1" else 1000)
            print(ctx.node_id, "has cleaned up")
            raise

    run = start(hooks, node_grace_s=5, check=False)
    assert run.elapsed_s == 5 + 3  # the grace; what production waits for those that refuse
    assert [event.outcome for event in run.trace] == ["failed"]


def test_a_timeout_of_all_sockets_breaks_no_process(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def look(ctx: NodeCtx) -> None:
        ctx.custom_data["seen"] = True

    socket.setdefaulttimeout(5)  # as a hook may do in the test's process
    try:
        assert told(start(hooks, nodes=1)) == {"node-0": {"seen": True}}
    finally:
        socket.setdefaulttimeout(None)


def test_several_runs_at_once(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    async def wait(ctx: NodeCtx) -> None:
        await asyncio.sleep(5)

    async def both() -> list[FakeRun]:
        cluster = FakeCluster(processes="nodes", engine_start_s=0, download_s=0)
        return await asyncio.gather(*(cluster.arun(FakeLLMConfig(name, hooks=[hooks])) for name in ("a", "b")))

    assert [run.elapsed_s for run in asyncio.run(both())] == [5, 5]


def test_a_start_that_would_hang_says_where(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init")
    async def hang(ctx: CallbackCtx) -> None:
        await asyncio.Event().wait()

    error = start(hooks, check=False).error
    assert "in production this start would hang for ever. Waiting: the replica: hook " in str(error)


def test_a_slow_call_of_the_replicas_is_waited_for_and_told(hooks: HookRegistry) -> None:
    @hooks.hook("on_after_init")
    def slow(ctx: CallbackCtx) -> None:
        os.system("sleep 0.2")
        ctx.custom_data["done"] = True

    with pytest.warns(HarnessWarning, match="really blocks"):
        run = start(hooks, real_sleep_limit_s=0.05)
    assert run.ctx is not None
    assert run.ctx.custom_data == {"done": True}


def test_a_veto_on_a_node_and_a_missing_module(module: Callable[[str, str], str], hooks: HookRegistry) -> None:
    name = module("not_everywhere", "@hook('on_before_node_download')\ndef f(ctx): return skip('baked in')")
    run = start(name, check=False, faults=[missing_module("node-1", name)])
    assert [event.outcome for event in run.trace] == ["vetoed", "vetoed"]
    assert isinstance(run.error, NodeInitializationError)
    assert "no module 'not_everywhere'" in str(run.error)
    assert run.unstruck == ()


# -- what is told ------------------------------------------------------------------------------------------------------


def test_what_nodes_print_and_log_and_warn_of_is_the_tests(
    hooks: HookRegistry, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    @hooks.hook("on_before_node_download")
    def tell(ctx: NodeCtx) -> None:
        print("printed by", ctx.node_id)
        print("an error of", ctx.node_id, file=sys.stderr)
        logging.getLogger("company.hooks").info("logged by %s", ctx.node_id, extra={"lock": threading.Lock()})
        warnings.warn(f"warned by {ctx.node_id}", DeprecationWarning, stacklevel=1)

    with caplog.at_level(logging.INFO), pytest.warns(DeprecationWarning, match="warned by") as warned:
        run = start(hooks)
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [f"printed by {node_id}" for node_id in run.nodes]
    assert captured.err.splitlines() == [f"an error of {node_id}" for node_id in run.nodes]
    messages = [record.getMessage() for record in caplog.records if record.name == "company.hooks"]
    assert messages == [f"logged by {node_id}" for node_id in run.nodes]
    assert [str(each.message) for each in warned] == [f"warned by {node_id}" for node_id in run.nodes]


def test_a_node_that_blocks_or_leaves_a_thread_is_noted(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def block(ctx: NodeCtx) -> None:
        threading.Thread(target=os.system, args=("sleep 3",), daemon=True, name="a thread of mine").start()
        os.system("sleep 0.5")

    with pytest.warns(HarnessWarning, match="left a thread behind"):
        run = start(hooks, nodes=1, real_sleep_limit_s=0.05, check=False)
    assert any("really blocks" in note for note in run.notes)
    assert any("left a thread behind: 'a thread of mine'" in note for note in run.notes)


def test_much_crosses_in_both_directions(hooks: HookRegistry, capsys: pytest.CaptureFixture[str]) -> None:
    size = 20_000_000

    @hooks.hook("on_before_init")
    def give(ctx: CallbackCtx) -> None:
        ctx.custom_data["given"] = bytes(size)

    @hooks.hook("on_before_node_download")
    def take(ctx: NodeCtx) -> None:
        for _ in range(100):
            print("x" * 100_000)
        ctx.custom_data["taken"] = ctx.custom_data.pop("given")

    run = start(hooks, nodes=2)
    assert [len(data["taken"]) for data in told(run).values()] == [size] * 2
    assert len(capsys.readouterr().out) == 2 * 100 * 100_001


def test_what_a_hook_raises_on_a_node(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_node_download")
    def breaks(ctx: NodeCtx) -> None:
        raise KeyboardInterrupt if ctx.node_id == "node-1" else OSError("no disk")

    error = start(hooks, check=False, nodes=2).error
    assert isinstance(error, NodeInitializationError)
    assert [type(each) for each in error.exceptions] == [HookError, HookError]
