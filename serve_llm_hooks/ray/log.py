"""Show this library's log in processes where nobody has configured logging."""

from __future__ import annotations

import logging
import sys


def show_log() -> None:
    """Print this library's log, which Ray collects, unless somebody has configured its logger.

    In a process that Ray has started the logger gets a handler of its own, as Ray's loggers do, and does not rely on
    the root logger: importing Ray Serve LLM gives the root a handler, and starting a vLLM engine makes that one drop
    everything below an error.
    """
    logger = logging.getLogger("serve_llm_hooks")
    own_process = _ray_started_this_process()
    if logger.handlers or (logger.hasHandlers() and not own_process):
        return
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s %(name)s -- %(message)s"))
    logger.addHandler(handler)
    if own_process:
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def _ray_started_this_process() -> bool:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return context.get_task_id() is not None or context.get_actor_id() is not None  # a driver has neither
