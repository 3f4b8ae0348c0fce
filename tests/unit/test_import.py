"""Importing the package: its costs, and what it offers."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import serve_llm_hooks
from serve_llm_hooks import DownloadMode, load_hooks
from tests.unit.stub import node_task, public_names

if TYPE_CHECKING:
    from serve_llm_hooks._node.task import NodeTask

REPOSITORY = Path(__file__).parents[2]


NEEDED_TO_DECORATE = ("hook", "made", "named_tuple", "options", "origin", "points", "registry")


def test_a_bare_import_is_cheap() -> None:
    script = "import json, sys, serve_llm_hooks; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout))
    assert not imported & {"ray", "torch", "vllm", "pydantic", "asyncio", "cloudpickle", "logging"}
    assert {name for name in imported if name.startswith("serve_llm_hooks.")} == {
        "serve_llm_hooks._core",
        "serve_llm_hooks._lazy_imports",
        *(f"serve_llm_hooks._core.{name}" for name in NEEDED_TO_DECORATE),
    }


# In a process of its own: running a node's task arms a timer that ends the process by force. What is unpickled there
# is packed here, so that packing imports nothing there.
A_NODE = """
import json, pickle, sys
from serve_llm_hooks.ray.node_entry import run_packed_task
report = pickle.loads(run_packed_task(sys.stdin.buffer.read(), 60))
print(json.dumps({
    "failure": report.failure and str(report.failure),
    "ran": [(event.name, event.outcome) for event in report.events],
    "imported": sorted(sys.modules),
}))
"""


def run_node(task: NodeTask) -> dict[str, Any]:
    """Run a task, and return what is seen of it."""
    done = subprocess.run(
        [sys.executable, "-c", A_NODE], input=pickle.dumps(task), cwd=REPOSITORY, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def test_a_node_without_a_download_imports_nothing_heavy() -> None:
    task = node_task(
        load_hooks("tests.unit.node_hook"),
        {"free_gb": 1},
        is_local=False,
        model_id="of-the-import-test",
        download_model=DownloadMode.MODEL_AND_TOKENIZER,
        llm_config=b"not to be unpickled unless a hook asks for it",
    )
    seen = run_node(task)
    assert seen["failure"] is None
    assert seen["ran"] == [["look", "ok"]]
    assert not set(seen["imported"]) & {"torch", "vllm", "ray.serve", "ray.llm", "pydantic"}


def test_a_node_that_cannot_open_files_any_more_imports_nothing_to_clean_up() -> None:
    seen = run_node(node_task(load_hooks("tests.unit.greedy_hook"), {}))
    assert "tests.unit.greedy_hook:open_too_many" in seen["failure"]
    assert "Too many open files" in seen["failure"]
    assert seen["ran"] == [["open_too_many", "failed"], ["close_them", "ok"]]


A_RUN_WITHOUT = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1:]))
from serve_llm_hooks import hook
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
@hook("on_before_node_download")
def look(ctx):
    print("ran")
FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[look]))
"""


def test_a_fake_cluster_runs_without_what_windows_lacks() -> None:
    lacks = ["fcntl", "grp", "pwd", "resource", "termios"]
    done = subprocess.run(
        [sys.executable, "-c", A_RUN_WITHOUT, *lacks], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("ran\n", "")


@pytest.mark.parametrize("name", public_names(serve_llm_hooks))
def test_all_that_is_offered_is_there(name: str) -> None:
    assert getattr(serve_llm_hooks, name) is not None


@pytest.mark.parametrize("package", ["serve_llm_hooks", "serve_llm_hooks.recipes", "serve_llm_hooks_testing"])
def test_all_that_is_offered_is_listed_before_it_is_used(package: str) -> None:
    script = f"import json, {package} as package; print(json.dumps([dir(package), package.__all__]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    listed, offered = json.loads(done.stdout)
    assert set(offered) <= set(listed)
    assert package != "serve_llm_hooks" or {"skip", "CallbackCtx"} <= set(listed)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'serve_llm_hooks' has no attribute 'hok'"):
        _ = serve_llm_hooks.hok  # type: ignore[attr-defined]  # the checker knows it too
