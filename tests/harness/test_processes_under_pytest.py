"""Processes of a fake cluster in the suites of others: however pytest runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")

HOOKS = """
from serve_llm_hooks import hook

@hook("on_before_node_download")
def tell(ctx):
    if not ctx.is_local:
        print("printed on", ctx.node_id)
    ctx.custom_data["told"] = ctx.node_id
"""

SUITE = """
import logging
import pytest
from serve_llm_hooks import HookRegistry
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

own = HookRegistry()

def helper(ctx):
    ctx.custom_data["helped"] = __name__

@own.hook("on_before_node_download")
def of_the_test(ctx):
    helper(ctx)
    logging.getLogger("suite").warning("logged on %s", ctx.node_id)

@pytest.mark.parametrize("number", range(3))
def test_it(number, caplog):
    from llm_hooks import tell

    run = FakeCluster(nodes=2, processes="nodes").run(FakeLLMConfig("m", hooks=[tell, own]))
    assert [node.custom_data["told"] for node in run.ctx.nodes.values()] == ["node-0", "node-1"]
    assert [node.custom_data["helped"] for node in run.ctx.nodes.values()] == [__name__] * 2
    assert [record.getMessage() for record in caplog.records] == ["logged on node-0", "logged on node-1"]

def test_output(capsys):
    test_output_reaches(capsys.readouterr)

def test_output_reaches(read=None):
    FakeCluster(nodes=2, processes="nodes").run(FakeLLMConfig("m", hooks=["llm_hooks"]))
    if read is not None:
        assert read().out == "printed on node-1\\n"
"""


def run_suite(folder: Path, *options: str) -> str:
    """Run the suite as its author would. Return what pytest wrote."""
    (folder / "llm_hooks.py").write_text(HOOKS)
    (folder / "suite").mkdir()
    (folder / "suite" / "test_suite.py").write_text(SUITE)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path, "COVERAGE_FILE": str(folder / "coverage")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:benchmark",
        "-p",
        "no:asyncio",
        *options,
        "suite",
    ]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "5 passed" in done.stdout
    return done.stdout


@pytest.mark.parametrize(
    "options",
    ["", "-s", "--capture=sys -W error", "-n 2", "--import-mode=importlib"],
    ids=lambda options: options or "plain",
)
def test_a_suite_passes(tmp_path: Path, options: str) -> None:
    run_suite(tmp_path, *options.split())


def test_what_only_nodes_run_is_covered(tmp_path: Path) -> None:
    told = run_suite(tmp_path, "--cov=llm_hooks", "--cov-report=term-missing")
    (line,) = (line for line in told.splitlines() if line.startswith("llm_hooks.py"))
    assert line.split()[3] == "100%", told
