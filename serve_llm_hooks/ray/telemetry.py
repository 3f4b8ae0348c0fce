"""Ask early for Ray's telemetry actor, which Ray waits for after the engine's start.

It is created once per cluster, also where usage statistics are off, and takes about two seconds: the first replica of a
cluster waits for it with everything else done. Asked for when the start begins, it is there by then.
"""

from __future__ import annotations

import contextlib
import logging
import threading

from .._core.messages import one_line

logger: logging.Logger = logging.getLogger("serve_llm_hooks")


def ask_for_actor() -> None:
    """Ask Ray to create its telemetry actor, and do not wait. Where that fails, Ray does it later itself."""
    with contextlib.suppress(RuntimeError):  # no thread can be had
        threading.Thread(target=_ask, name="serve-llm-hooks telemetry", daemon=True).start()


def _ask() -> None:
    try:
        from .internals import _get_or_create_telemetry_agent

        _get_or_create_telemetry_agent()
    except Exception as error:  # it only saves time: nothing may fail with it
        logger.debug("Ray's telemetry actor cannot be asked for early: %s", one_line(error))
