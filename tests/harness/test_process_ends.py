"""Ends of a fake cluster's processes: none outlives the test's."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookRegistry, NodeInitializationError, NodeLostError
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
from serve_llm_hooks_testing._processes.spawning import template

if TYPE_CHECKING:
    from pathlib import Path

    from serve_llm_hooks import NodeCtx

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")


def lost_with(hook: Any, **settings: Any) -> NodeLostError:
    """Lose node-1 by a hook there."""
    hooks = HookRegistry()
    hooks.hook("on_before_node_download")(hook)
    run = FakeCluster(nodes=2, processes="nodes", **settings).run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert isinstance(run.error, NodeInitializationError)
    (error,) = run.error.exceptions
    assert isinstance(error, NodeLostError)
    assert error.node_id == "node-1"
    assert run.nodes["node-0"].downloaded
    return error


def exits(ctx: NodeCtx) -> None:
    os._exit(3)


def kills_itself(ctx: NodeCtx) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def is_terminated(ctx: NodeCtx) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def breaks_memory(ctx: NodeCtx) -> None:
    import ctypes

    ctypes.string_at(0)


def closes_everything(ctx: NodeCtx) -> None:
    os.closerange(0, 100)


@pytest.mark.parametrize(
    ("hook", "how"),
    [
        (exits, "its process exited with code 3"),
        (kills_itself, "its process was killed by SIGKILL"),
        (is_terminated, "its process was killed by SIGTERM"),
        (breaks_memory, "its process was killed by SIGSEGV"),
        (closes_everything, "its process closed file descriptors that are not its own"),
    ],
)
def test_a_death_is_told_by_name(hook: Any, how: str) -> None:
    def on_second(ctx: NodeCtx) -> None:
        if ctx.node_id == "node-1":
            hook(ctx)

    assert how in str(lost_with(on_second))


def test_a_hang_that_keeps_the_interpreter_is_killed_and_says_where() -> None:
    def hang_for_ever(ctx: NodeCtx) -> None:
        if ctx.node_id == "node-1":
            import ctypes

            ctypes.PyDLL(None).pause()  # unlike CDLL, it keeps the GIL

    error = str(lost_with(hang_for_ever, hang_s=3))
    assert "was killed: for 3 s of real time (hang_s= of FakeCluster)" in error
    assert "in hang_for_ever" in error


def test_a_template_that_was_killed_is_started_again() -> None:
    first = template()
    first._process.kill()
    first._process.wait()
    hooks = HookRegistry()

    @hooks.hook("on_before_node_download")
    def hook(ctx: NodeCtx) -> None: ...

    assert len(FakeCluster(processes="nodes").run(FakeLLMConfig("m", hooks=[hooks])).trace) == 3
    assert template() is not first


def test_a_fork_of_the_test_has_processes_of_its_own() -> None:
    used = template()
    child = os.fork()
    if child == 0:
        os._exit(template() is used)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert used.is_usable([])


# -- none is left -----------------------------------------------------------------------------------------------------

PROGRAM = """
    import asyncio, os, subprocess, sys
    from serve_llm_hooks import HookRegistry
    from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
    hooks = HookRegistry()

    @hooks.hook("on_before_node_download")
    def hang(ctx):
        started = subprocess.Popen(["sleep", "1000"])
        os.write(1, f"{os.getppid()} {os.getpid()} {started.pid}\\n".encode())
        if %s:
            import ctypes
            ctypes.PyDLL(None).pause()

    FakeCluster(nodes=3, processes="nodes").run(FakeLLMConfig("m", hooks=[hooks]))
    print("done", flush=True)
"""


def run_program(folder: Path, *, hangs: bool) -> tuple[subprocess.Popen[bytes], dict[int, int]]:
    """Start the program. Return it, and a descriptor for each process that comes of it, which tells its end."""
    file = folder / "program.py"
    file.write_text(textwrap.dedent(PROGRAM) % hangs)
    program = subprocess.Popen([sys.executable, str(file)], stdout=subprocess.PIPE)
    assert program.stdout is not None
    ids = [int(word) for _ in range(3) for word in program.stdout.readline().split()]
    found = {}
    for process_id in ids:
        try:
            found[process_id] = os.pidfd_open(process_id)
        except ProcessLookupError:  # it has ended meanwhile
            continue
    return program, found


def assert_all_end(found: dict[int, int]) -> None:
    for process_id, descriptor in found.items():
        ended, _, _ = select.select([descriptor], [], [], 20)
        os.close(descriptor)
        assert ended, f"process {process_id} is still there"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_nothing_outlives_a_test_that_is_killed(tmp_path: Path, number: signal.Signals) -> None:
    program, found = run_program(tmp_path, hangs=True)
    assert len(found) == 1 + 3 + 3  # the template, the nodes, what they have started
    program.send_signal(number)
    with program:
        assert program.wait(20) != 0
    assert_all_end(found)


def test_nothing_outlives_a_test_that_ends(tmp_path: Path) -> None:
    program, found = run_program(tmp_path, hangs=False)
    with program:
        assert program.stdout is not None
        assert program.stdout.read() == b"done\n"
        assert program.wait(20) == 0
    assert_all_end(found)
