"""The steps of the engine's own processes, of which vLLM's log tells; vLLM's classes are stand-ins."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import serve_llm_hooks_engine
from serve_llm_hooks import Trace
from serve_llm_hooks.ray import locked_folder
from serve_llm_hooks.ray.engine_steps import VARIABLE, steps_in

LOG = logging.getLogger("vllm.v1.something")


class EngineCore:
    def __init__(self) -> None:
        serve_llm_hooks_engine.load()


class WorkerWrapperBase:
    global_rank = 3

    def init_worker(self) -> None:
        serve_llm_hooks_engine.load()


class EngineArgs:
    def __post_init__(self) -> None:
        serve_llm_hooks_engine.load()


@pytest.fixture(autouse=True)
def vllms_log() -> None:
    """vLLM's logger as vLLM sets it up."""
    logger = logging.getLogger("vllm")
    logger.setLevel(logging.INFO)
    logger.handlers.clear()


def test_what_the_core_logs_becomes_steps_of_the_trace() -> None:
    assert serve_llm_hooks_engine.STEPS == VARIABLE
    trace = Trace(node_id="n0", address="10.0.0.7", hostname="gpu-3")
    before_s = time.time()
    with steps_in(trace):
        EngineCore()
        LOG.info("Loading weights took %.2f seconds", 2.5)
        LOG.info("Model loading took %s GiB memory and %.6f seconds", "1.25", 3.0)
        LOG.info("Directly load the compiled graph(s) for compile range %s from the cache, took %.3f s", "(1, 8)", 2.0)
        LOG.info("torch.compile took %.2f s in total", 7.0)
        LOG.info("torch.compile and initial profiling/warmup run together took %.2f s in total", 8.0)
        LOG.info("Initial profiling/warmup run took %.2f s", 5.0)
        LOG.info("Graph capturing finished in %.0f secs, took %.2f GiB", 4.0, 0.5)
        LOG.info("init engine (profile, create kv cache, warmup model) took %.2f s (compilation: %.2f s)", 6.0, 1.0)
        LOG.info("Loading weights took a while")
        LOG.debug("Loading weights took 9.0 seconds")
    imported, *others = trace.steps
    assert (imported.name, imported.process, imported.process_id) == ("import", "core", os.getpid())
    assert 0 < imported.start_s < before_s < imported.end_s
    assert [(step.name, round(step.duration_s, 3)) for step in others] == [
        ("load weights", 2.5),
        ("load model", 3.0),
        ("load compiled", 2.0),
        ("compile", 7.0),
        ("compile", 8.0),
        ("profile", 5.0),
        ("capture graphs", 4.0),
        ("profile and warm up", 6.0),
    ]
    assert [step.size_bytes for step in others[:3]] == [None, 5 * 2**28, None]
    assert {(step.node_id, step.address, step.hostname, step.process) for step in others} == {
        ("n0", "10.0.0.7", "gpu-3", "core")
    }


def test_what_other_versions_of_vllm_log_becomes_steps_too() -> None:
    trace = Trace()
    with steps_in(trace):
        EngineCore()
        LOG.info("Model loading took %s GiB and %.6f seconds", "1.25", 3.0)  # 0.26
        LOG.info("%storch.compile took %.2f s in total", "[vision_tower] ", 7.0)  # from 0.33 on
        LOG.info("%sInitial profiling/warmup run took %.2f s", "[vision_tower] ", 5.0)
    assert [(step.name, round(step.duration_s, 3)) for step in trace.steps[1:]] == [
        ("load model", 3.0),
        ("compile", 7.0),
        ("profile", 5.0),
    ]


def test_a_worker_is_told_by_its_rank_and_other_processes_have_no_steps() -> None:
    trace = Trace()
    with steps_in(trace):
        EngineArgs().__post_init__()
        LOG.info("Loading weights took %.2f seconds", 9.0)
        WorkerWrapperBase().init_worker()
        LOG.info("Loading weights took %.2f seconds", 2.5)
    assert [(step.process, step.name) for step in trace.steps] == [("worker-3", "import"), ("worker-3", "load weights")]


def test_a_start_that_fails_has_what_was_told_before() -> None:
    trace = Trace()

    def start() -> None:
        with steps_in(trace):
            EngineCore()
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        start()
    assert [step.name for step in trace.steps] == ["import"]


def test_nothing_is_left_behind_and_an_engine_that_goes_on_logging_is_not_disturbed() -> None:
    trace = Trace()
    before = list(logging.getLogger("vllm").handlers)  # pytest's, where vLLM has been imported
    with steps_in(trace):
        EngineCore()
        folder = Path(os.environ[VARIABLE])
    assert VARIABLE not in os.environ
    assert not folder.exists()
    LOG.info("Loading weights took %.2f seconds", 1.0)
    assert logging.getLogger("vllm").handlers == before
    assert len(trace.steps) == 1


DIES = """
import os, sys
from serve_llm_hooks import Trace
from serve_llm_hooks.ray.engine_steps import steps_in
with steps_in(Trace()):
    os._exit(9)
"""


def test_the_next_start_removes_the_folder_of_a_replica_that_was_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    subprocess.run([sys.executable, "-c", DIES], env={**os.environ, "TMPDIR": str(tmp_path)}, check=False)
    [left] = tmp_path.iterdir()
    with steps_in(Trace()):
        locked_folder.remove_left_over()
        [folder] = tmp_path.iterdir()
        assert folder != left
    assert list(tmp_path.iterdir()) == []


def test_without_a_folder_the_engine_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "on another node"))
    before = list(logging.getLogger("vllm").handlers)
    EngineCore()
    assert logging.getLogger("vllm").handlers == before
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    with steps_in(Trace()):
        EngineCore()
