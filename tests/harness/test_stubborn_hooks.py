"""Async hooks that do not let themselves be cancelled: the test ends all the same."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from serve_llm_hooks import HookRegistry, HookTimeoutError
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

if TYPE_CHECKING:
    from pathlib import Path

HOOKS = """
import asyncio
from serve_llm_hooks import hook

@hook("on_before_node_download", timeout_s=30)
async def wait_for_registry(ctx):
    while True:
        try:
            await asyncio.sleep(5)
        except:
            pass
"""
SCRIPT = """
import gc
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig

run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=["stubborn"]), check=False)
print(type(run.error.exceptions[0]).__name__, run.notes)
del run
gc.collect()
"""


def test_python_ends_after_a_hook_that_catches_everything(tmp_path: Path) -> None:
    (tmp_path / "stubborn.py").write_text(HOOKS)
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(  # spinning, it would end at the limit
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.startswith(HookTimeoutError.__name__)
    assert "stubborn:wait_for_registry" in done.stdout
    assert "went on although it was cancelled" in done.stdout


def test_a_hook_that_lets_itself_be_cancelled_is_no_problem(hooks: HookRegistry) -> None:
    @hooks.hook("on_before_init", timeout_s=30)
    async def waits(ctx: object) -> None:
        await asyncio.sleep(1000)

    run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[hooks]), check=False)
    assert isinstance(run.error, HookTimeoutError)
    assert run.notes == ()
