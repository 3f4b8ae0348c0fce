"""What this library logs is seen in the processes that Ray starts, once, whatever an engine does to logging there."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests import stub_engine

pytestmark = pytest.mark.ray


def log_around_an_engines_imports() -> str:
    """What a process of Ray's prints: in a replica, the engine's modules are imported in the middle of a start."""
    import importlib
    import io
    import logging
    import sys

    from serve_llm_hooks.ray.log import show_log

    printed = sys.stderr = io.StringIO()
    logger = logging.getLogger("serve_llm_hooks")
    show_log()
    logger.info("before")
    importlib.import_module("ray.serve.llm")  # gives the root logger a handler
    logger.warning("between")
    importlib.import_module("vllm.entrypoints.openai.api_server")  # lets the root logger's through nothing but errors
    show_log()  # the next start in the same process
    logger.info("after")
    logger.warning("at last")
    return printed.getvalue()


def test_each_line_is_printed_once_before_and_after_the_engines_modules(ray_cluster: Any, three_nodes: Any) -> None:
    import ray

    task = ray.remote(num_cpus=0, max_calls=1)(log_around_an_engines_imports)  # a process of its own
    printed = ray.get(task.remote(), timeout=300)
    ours = [line.rpartition(" -- ")[2] for line in printed.splitlines() if " serve_llm_hooks -- " in line]
    assert ours == ["before", "between", "after", "at last"]
    for word in ours:
        assert printed.count(word) == 1


def test_who_has_configured_our_logger_keeps_it_so(ray_cluster: Any, three_nodes: Any) -> None:
    import ray

    def configured() -> tuple[int, int, bool]:
        import logging

        from serve_llm_hooks.ray.log import show_log

        logger = logging.getLogger("serve_llm_hooks")
        logger.addHandler(logging.NullHandler())
        logger.setLevel(logging.ERROR)
        show_log()
        return len(logger.handlers), logger.level, logger.propagate

    task = ray.remote(num_cpus=0, max_calls=1)(configured)
    assert ray.get(task.remote(), timeout=300) == (1, 40, True)


def test_in_a_replica_it_is_in_serves_file_of_the_replica_in_serves_format(serve_url: str, tmp_path: Path) -> None:
    from ray import serve

    from serve_llm_hooks.ray import LLMConfig, build_openai_app

    config = LLMConfig(
        model_id="logged",
        hooks=["tests.integration.hooks.logging_hooks"],
        model_loading_config={"model_source": str(tmp_path)},
        accelerator_config={"kind": "cpu"},
        log_engine_metrics=False,
        runtime_env={"env_vars": {"RAYLLM_VLLM_ENGINE_CLS": stub_engine.PATH}},
    )
    try:
        serve.run(build_openai_app({"llm_configs": [config]}), name="logged", route_prefix="/logged")
        (log,) = Path(session_dir(), "logs", "serve").glob("replica_logged_LLMServer_logged_*.log")
        lines = log.read_text().splitlines()
    finally:
        serve.delete("logged")
    silenced = "the root logger of this process shows nothing below ERROR"
    wanted = ["model 'logged': 3 hooks: ", "seen before the engine", silenced, "warned after the engine"]
    found = [[line for line in lines if text in line] for text in wanted]
    assert [len(each) for each in found] == [1, 1, 1, 1], lines
    for (line,) in found:
        assert re.match(r"(INFO|WARNING) \S+ \S+ logged_LLMServer:logged \w+ -- ", line), line
    assert [lines.index(line) for (line,) in found] == sorted(lines.index(line) for (line,) in found)
    assert not any("lost with the root" in line for line in lines)


def session_dir() -> str:
    """Return the folder that this Ray writes to."""
    return str(import_module("ray._private.worker")._global_node.get_session_dir_path())
