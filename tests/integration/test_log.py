"""What this library logs is seen in the processes that Ray starts, once, whatever an engine does to logging there."""

from __future__ import annotations

from typing import Any

import pytest

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
