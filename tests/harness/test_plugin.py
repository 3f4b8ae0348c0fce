"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SUITE = """
import asyncio
import pytest
from serve_llm_hooks import hook, registry
from serve_llm_hooks_testing import FakeLLMConfig

def test_cluster(fake_cluster):
    assert fake_cluster.run(FakeLLMConfig("m")).elapsed_s == 50

def test_factory(make_fake_cluster):
    assert len(make_fake_cluster(nodes=5).run(FakeLLMConfig("m")).nodes) == 5

@pytest.mark.parametrize("again", [1, 2])
def test_registry(hook_registry, again):
    assert len(hook_registry) == 0
    assert "leaks" not in [one.name for one in registry]

    @hook_registry.hook("on_before_init")
    def mine(ctx): ...

    @hook("on_before_init")
    def leaks(ctx): ...

def test_fails(fake_cluster, hook_registry):
    @hook_registry.hook("on_after_init")
    def announce(ctx): ...

    run = fake_cluster.run(FakeLLMConfig("m", hooks=[hook_registry]))
    assert run.elapsed_s == 1

def test_raises(fake_cluster, hook_registry):
    @hook_registry.hook("on_after_init")
    def breaks(ctx):
        raise OSError("disk full")

    fake_cluster.run(FakeLLMConfig("m", hooks=[hook_registry]))
"""
ASYNC_SUITE = """
import pytest
from serve_llm_hooks_testing import FakeLLMConfig, HarnessError

{mark}
async def test_arun(fake_cluster):
    with pytest.raises(HarnessError):
        fake_cluster.run(FakeLLMConfig("m"))
    run = await fake_cluster.arun(FakeLLMConfig("m"))
    assert run.elapsed_s == 50
"""


def run_pytest(
    folder: Path, source: str | None, *options: str, plugins: tuple[str, ...] | None = ()
) -> tuple[int, str]:
    """Run a suite of one file, or (without a source) what the options name.

    Args:
        folder: where.
        source: the suite.
        options: pytest's.
        plugins: those beside ours; ``None`` for all that are installed, which takes a second to start.
    """
    if source is not None:
        (folder / "test_it.py").write_text(textwrap.dedent(source))
        options = (*options, "test_it.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTEST_ADDOPTS": ""}
    environment.pop("PYTEST_DISABLE_PLUGIN_AUTOLOAD", None)
    if plugins is not None:
        environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    # A checkout that is not installed has no entry point.
    if plugins is not None or not entry_points(group="pytest11", name="serve_llm_hooks"):
        command += ["-p", "serve_llm_hooks_testing.plugin"]
    command += [argument for plugin in plugins or () for argument in ("-p", plugin)]
    done = subprocess.run(
        [*command, *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_fixtures_and_the_trace_beside_a_failing_test(tmp_path: Path) -> None:
    _, output = run_pytest(tmp_path, SUITE, plugins=None)
    assert "2 failed, 4 passed" in output, output
    assert output.count("fake cluster: run 1 of the last 1") == 2
    assert "start of model 'm' on 3 fake nodes: succeeded, after 50 s" in output
    assert "failed: HookError: hook test_it:test_raises" in output
    assert "on_after_init" in output


def test_under_xdist(tmp_path: Path) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    _, output = run_pytest(tmp_path, SUITE, "-n", "2", plugins=("xdist",))
    assert "2 failed, 4 passed" in output, output
    assert output.count("fake cluster: run 1 of the last 1") == 2


@pytest.mark.parametrize(("mode", "mark"), [("auto", ""), ("strict", "@pytest.mark.asyncio")])
def test_beside_pytest_asyncio(tmp_path: Path, mode: str, mark: str) -> None:
    pytest.importorskip("pytest_asyncio", reason="pytest-asyncio is not installed")
    suite = ASYNC_SUITE.format(mark=mark)
    code, output = run_pytest(tmp_path, suite, "-o", f"asyncio_mode={mode}", plugins=("pytest_asyncio.plugin",))
    assert code == 0, output


def test_it_imports_nothing_of_the_harness_before_a_test_does() -> None:
    check = (
        "import sys, serve_llm_hooks_testing.plugin; "
        "print([name for name in sys.modules if name.startswith('serve_llm_hooks')])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", check], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['serve_llm_hooks_testing', 'serve_llm_hooks_testing.plugin']"
