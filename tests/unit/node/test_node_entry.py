"""A node's process: how it is cancelled there, and what is no cancelling. In processes of their own, as on a node."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import Hook
from tests.unit.stub import node_task

from . import ending_hooks

if TYPE_CHECKING:
    from collections.abc import Callable

REPOSITORY = Path(__file__).parents[3]

A_NODE = """
import json, pickle, signal, sys
if sys.argv[2] == "uvloop":
    import asyncio, uvloop  # as Ray has it, unless RAY_USE_UVLOOP=0
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
if sys.argv[1] == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as nohup's children have it
from serve_llm_hooks.ray.node_entry import run_packed_task
try:
    report = pickle.loads(run_packed_task(sys.stdin.buffer.read(), 60))
except KeyboardInterrupt:
    print(json.dumps("interrupted"))
else:
    print(json.dumps([type(report.failure).__name__, str(report.failure)]))
"""


def on_a_node(fn: Callable[..., Any], sigint: str, loop: str = "asyncio", **custom_data: Any) -> Any:
    """Run a hook in a node's process, and return how it ended."""
    (hook,) = (one for one in ending_hooks.hooks if one.fn is fn)
    assert isinstance(hook, Hook)
    task = node_task([hook], custom_data)
    done = subprocess.run(
        [sys.executable, "-c", A_NODE, sigint, loop],
        input=pickle.dumps(task),
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("sigint", ["as it is", "ignored"])
@pytest.mark.parametrize("fn", [ending_hooks.cleans_up, ending_hooks.cleans_up_in_a_task])
def test_a_hook_may_clean_up_when_ray_cancels_it(
    fn: Callable[..., Any], sigint: str, loop: str, tmp_path: Path
) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop", reason="uvloop comes with Ray Serve, and Ray is not installed")
    cleaned = tmp_path / "cleaned"
    assert on_a_node(fn, sigint, loop, file=str(cleaned)) == "interrupted"
    assert cleaned.exists()


def test_an_interrupt_that_a_hook_raises_is_the_hooks_failure() -> None:
    kind, message = on_a_node(ending_hooks.interrupts, "as it is")
    assert kind == "HookError"
    assert message.endswith(
        "interrupts failed at on_before_node_download for model 'm' on node n0: KeyboardInterrupt: of its own"
    )
