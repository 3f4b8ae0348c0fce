"""The plugin that vLLM calls, and what it finds out about its process; vLLM's callers are stand-ins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

import serve_llm_hooks_engine
from serve_llm_hooks import EngineProcessCtx, HookError, HookLoadError, HookRegistry
from serve_llm_hooks._core.node import Node
from serve_llm_hooks._node.packing import pack_hooks
from serve_llm_hooks._process.task import ProcessTask
from serve_llm_hooks.ray import engine_channel, engine_process, key_value_store, locked_folder
from serve_llm_hooks.ray.engine_channel import Channel, close_channel, open_channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NODE = Node("n0")


def load_general_plugins(call: Callable[[], Any]) -> Any:
    """As in vLLM, whose callers are known by who calls a function of this name."""
    return call()


class EngineArgs:
    def __post_init__(self, call: Callable[[], Any]) -> Any:
        return load_general_plugins(call)


class EngineCore:
    def __init__(self, call: Callable[[], Any], backend: str) -> None:
        vllm_config = SimpleNamespace(parallel_config=SimpleNamespace(distributed_executor_backend=backend))
        self.told = load_general_plugins(call)
        del vllm_config


class WorkerWrapperBase:
    def __init__(self, global_rank: int) -> None:
        self.global_rank = global_rank

    def init_worker(self, call: Callable[[], Any]) -> Any:
        return load_general_plugins(call)


def _run(call: Callable[[], Any]) -> Any:
    return load_general_plugins(call)


def test_the_process_is_told_by_who_loads_the_plugins() -> None:
    who = engine_process.this_process
    assert EngineArgs().__post_init__(who).name == "config"
    assert EngineCore(who, "mp").told == ("core", None, False)
    assert EngineCore(who, "uni").told == ("core", None, True)
    assert WorkerWrapperBase(3).init_worker(who).name == "worker-3"
    assert _run(who).role == "inspection"


def test_somebody_who_is_not_known_is_an_error() -> None:
    with pytest.raises(HookLoadError, match="plugins are loaded by test_somebody_who_is_not_known_is_an_error"):
        load_general_plugins(engine_process.this_process)
    with pytest.raises(HookLoadError, match="plugins are loaded by nobody"):
        engine_process.this_process()


def test_without_hooks_the_plugin_imports_nothing() -> None:
    script = (
        "import json, sys; before = set(sys.modules); import serve_llm_hooks_engine; serve_llm_hooks_engine.load(); "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    environ = {name: value for name, value in os.environ.items() if name != serve_llm_hooks_engine.VARIABLE}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environ)
    assert json.loads(done.stdout) == ["serve_llm_hooks_engine"]


def test_both_sides_know_the_variable() -> None:
    assert serve_llm_hooks_engine.VARIABLE == engine_channel.VARIABLE


@pytest.fixture
def plugin_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_channel, "entry_points", lambda **_: [SimpleNamespace(name="serve_llm_hooks")])


@pytest.fixture
def task() -> ProcessTask:
    hooks = HookRegistry()

    @hooks.hook("on_engine_process_start")
    def register(ctx: EngineProcessCtx) -> None:
        if ctx.rank == 1:
            raise LookupError("no such parser")

    return ProcessTask("m", NODE, pack_hooks(hooks), (), "raise")


@pytest.fixture
def channel(plugin_is_installed: None, task: ProcessTask, monkeypatch: pytest.MonkeyPatch) -> Iterator[Channel]:
    monkeypatch.setattr(engine_process, "_done", set())
    opened = open_channel(task)
    yield opened
    close_channel(opened)


def as_worker(rank: int) -> None:
    WorkerWrapperBase(rank).init_worker(serve_llm_hooks_engine.load)


def test_a_process_tells_the_replica(channel: Channel) -> None:
    as_worker(0)
    (report,) = close_channel(channel)
    assert (report.process.name, report.process_id, report.node) == ("worker-0", os.getpid(), NODE)
    assert [event.process for event in report.events] == ["worker-0"]
    assert serve_llm_hooks_engine.VARIABLE not in os.environ
    assert not os.path.exists(channel.folder)


def test_a_failure_ends_the_process_and_is_told(channel: Channel) -> None:
    with pytest.raises(HookError, match="in worker-1 on node n0: LookupError: no such parser"):
        as_worker(1)
    (report,) = close_channel(channel)
    assert "no such parser" in str(report.failure)


def test_a_process_runs_the_hooks_of_a_start_once(channel: Channel) -> None:
    as_worker(0)
    as_worker(0)
    (report,) = close_channel(channel)
    assert len(report.events) == 1


def test_the_replica_runs_its_own(channel: Channel) -> None:
    engine_process.is_mine(channel)
    EngineArgs().__post_init__(serve_llm_hooks_engine.load)
    assert close_channel(channel) == []


def test_a_child_that_inspects_runs_only_what_names_it(channel: Channel) -> None:
    _run(serve_llm_hooks_engine.load)
    assert close_channel(channel) == []


def test_the_folder_is_the_users_own(channel: Channel) -> None:
    assert os.stat(channel.folder).st_mode & 0o077 == 0


def test_what_a_killed_replica_has_left_is_removed_by_the_next(
    channel: Channel, tmp_path: Path, task: ProcessTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead, alive = (tmp_path / f"serve-llm-hooks-engine-{name}" for name in ("dead", "alive"))
    for folder in (dead, alive):
        folder.mkdir()
    lock = locked_folder._locked(str(alive))
    assert lock is not None
    opened = open_channel(task)
    locked_folder.remove_left_over()
    assert sorted(tmp_path.iterdir()) == sorted([alive, Path(opened.folder)])
    close_channel(opened)
    assert list(tmp_path.iterdir()) == [alive]
    os.close(lock)


def test_a_process_that_cannot_tell_anybody_says_so(
    channel: Channel, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_value_store, "is_connected", lambda: False)
    os.rename(channel.folder, tmp_path / "away")
    as_worker(0)
    assert "cannot be told of the hooks in worker-0" in caplog.text


def test_a_library_that_is_not_installed_is_told(task: ProcessTask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_channel, "entry_points", lambda **_: [])
    with pytest.raises(HookLoadError, match="pip install serve-llm-hooks"):
        open_channel(task)
    assert serve_llm_hooks_engine.VARIABLE not in os.environ


def test_hooks_come_to_the_task_that_builds_the_config(channel: Channel, monkeypatch: pytest.MonkeyPatch) -> None:
    text = os.environ.pop(serve_llm_hooks_engine.VARIABLE)
    engine_process.arrive(text)
    EngineArgs().__post_init__(serve_llm_hooks_engine.load)
    assert [report.process.name for report in channel.reports()] == ["config"]
    engine_process.arrive("")  # the next config has none
    assert serve_llm_hooks_engine.VARIABLE not in os.environ


def test_hooks_that_come_to_a_process_which_vllm_has_begun_run_at_once(
    channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = os.environ.pop(serve_llm_hooks_engine.VARIABLE)
    monkeypatch.setitem(sys.modules, "vllm.plugins", SimpleNamespace(plugins_loaded=True))
    engine_process.arrive(text)
    assert [report.process.name for report in channel.reports()] == ["config"]
    engine_process.arrive("")


def test_the_plugin_is_an_entry_point_of_the_package() -> None:
    pyproject = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    assert '[project.entry-points."vllm.general_plugins"]\nserve_llm_hooks = "serve_llm_hooks_engine:load"' in pyproject
