"""Importing the package: its costs, and what it offers."""

from __future__ import annotations

import compileall
import json
import pickle
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import serve_llm_hooks
from serve_llm_hooks import DownloadMode, _lazy_imports, load_hooks
from tests.unit.stub import node_task, public_names

if TYPE_CHECKING:
    from collections.abc import Callable

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


LISTS = ("serve_llm_hooks", "serve_llm_hooks.ray", "serve_llm_hooks.ray.internals", "serve_llm_hooks.recipes")


@pytest.mark.parametrize("package", [*LISTS, "serve_llm_hooks_testing"])
def test_each_name_of_a_list_is_found_in_it(package: str) -> None:
    import_module(package)
    names = _lazy_imports.listed(package)
    assert len(names) > 0
    assert {name: _lazy_imports.module_of(package, name) for name in names} == names
    assert _lazy_imports.module_of(package, "hok") is None


def in_a_zip(folder: Path) -> Path:
    return Path(shutil.make_archive(str(folder), "zip", folder))


def compiled_in_a_zip(folder: Path) -> Path:
    compileall.compile_dir(folder, quiet=1, legacy=True)
    return in_a_zip(folder)


def with_line_ends_of_windows(folder: Path) -> Path:
    for file in folder.rglob("*.py"):
        file.write_text(file.read_text(encoding="utf-8"), encoding="utf-8", newline="\r\n")
    return folder


def compiled_only(folder: Path) -> Path:
    compileall.compile_dir(folder, quiet=1, legacy=True)
    for file in folder.rglob("*.py"):
        file.unlink()
    return folder


@pytest.mark.parametrize("install", [in_a_zip, compiled_in_a_zip, with_line_ends_of_windows])
def test_all_that_is_offered_is_there_however_it_is_installed(install: Callable[[Path], Path], tmp_path: Path) -> None:
    assert names_there(install, tmp_path) == len(public_names(serve_llm_hooks))


def test_what_decorates_is_there_without_the_sources(tmp_path: Path) -> None:
    assert names_there(compiled_only, tmp_path) == 0  # of those that are imported on first use


def names_there(install: Callable[[Path], Path], folder: Path) -> int:
    """Install the package so, decorate in a new process, and return how many of the names are found there."""
    package = folder / "installed" / "serve_llm_hooks"
    shutil.copytree(REPOSITORY / "serve_llm_hooks", package, ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "from serve_llm_hooks import Hook, hook, registry; from serve_llm_hooks import *; import serve_llm_hooks as s; "
        "hook('on_after_init')(lambda ctx: None); print(len([name for name in s.__all__ if hasattr(s, name)]))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        cwd=folder,
        env={"PYTHONPATH": str(install(package.parent))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


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
