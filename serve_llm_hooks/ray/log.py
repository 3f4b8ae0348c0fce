"""Show this library's log where people look for it: in Serve's file of a replica, and on the nodes in Ray's."""

from __future__ import annotations

import logging
import sys
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .._replica.initialize import Initialization


def show_log() -> None:
    """Give this library's log a place to go, unless somebody has configured its logger.

    In a process that Ray has started the logger gets a handler of its own, as Ray's loggers do, and does not rely on
    the root logger: importing Ray Serve LLM gives the root a handler, and starting a vLLM engine makes that one drop
    everything below an error. In a replica of Serve the handler passes records on to Serve's own, one of which writes
    `replica_*.log`; elsewhere it prints to stderr, which Ray collects.
    """
    logger = logging.getLogger("serve_llm_hooks")
    own_process = _ray_started_this_process()
    if logger.handlers or (logger.hasHandlers() and not own_process):
        return
    if own_process and _serve_writes_a_file():
        logger.addHandler(_ToServe())
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(levelname)s %(asctime)s %(name)s -- %(message)s"))
        logger.addHandler(handler)
    if own_process:
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def log_if_root_is_silenced(run: Initialization) -> None:
    """Log, once in a process, that the warnings of hooks' own loggers are not seen here, and which are."""
    global _has_logged  # a process has one root logger
    root, logger = logging.getLogger(), logging.getLogger("serve_llm_hooks")
    shows = any(max(root.level, handler.level) <= logging.WARNING for handler in root.handlers)
    if _has_logged or shows or not root.handlers or not run.start.selection.hooks:
        return
    _has_logged = True
    logger.info(
        "the root logger of this process shows nothing below %s since the engine's modules were imported: what your "
        "hooks log is seen if they use logging.getLogger('serve_llm_hooks.<yours>')",
        logging.getLevelName(max(root.level, min(handler.level for handler in root.handlers))),
    )


_has_logged = False


class _ToServe(logging.Handler):
    """Pass records on to the handlers that Serve's logger has at that moment.

    Serve makes new ones whenever a deployment's logging_config changes.
    """

    def emit(self, record: logging.LogRecord) -> None:
        serve = logging.getLogger("ray.serve")
        if serve.isEnabledFor(record.levelno):
            serve.callHandlers(record)
            for handler in serve.handlers:  # it may keep many lines back, and a start that hangs is looked at now
                handler.flush()


def _serve_writes_a_file() -> bool:
    """Return True in a replica: Serve's logger writes a file there, behind a handler that keeps lines back."""
    handlers = logging.getLogger("ray.serve").handlers
    targets = (getattr(handler, "target", None) for handler in handlers)
    return any(isinstance(handler, logging.FileHandler) for handler in chain(handlers, targets))


def _ray_started_this_process() -> bool:
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    return context.get_task_id() is not None or context.get_actor_id() is not None  # a driver has neither
