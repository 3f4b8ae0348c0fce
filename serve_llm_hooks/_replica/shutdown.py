"""The end of a replica's life: ``on_shutdown``, after a good start, within the time that is left."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from .._observe.clean_up import run_each
from .._observe.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .start import Start


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

RESERVED_S = 2.0
"""Seconds of Serve's time for a replica's end that are left for what comes after the hooks: the engine's own end."""

DEFAULT_BUDGET_S = 16.0
"""Seconds for the hooks where nothing is set: Serve's 20 s, less its 2 s wait for requests, less ``RESERVED_S``."""

POINT = "on_shutdown"

SERVE_DEFAULTS_S = {"graceful_shutdown_timeout_s": 20.0, "graceful_shutdown_wait_loop_s": 2.0}


def budget_s(deployment_config: Mapping[str, Any]) -> float:
    """Return the seconds that hooks at ``on_shutdown`` have under the settings of a deployment, at most.

    Serve kills a replica ``graceful_shutdown_timeout_s`` after it began to stop it. It first waits for requests, for
    ``graceful_shutdown_wait_loop_s`` at least.

    Example:
        >>> budget_s({}), budget_s({"graceful_shutdown_timeout_s": 60})
        (16.0, 56.0)
    """
    timeout_s, wait_s = seconds_of(deployment_config)
    return max(timeout_s - wait_s - RESERVED_S, 0.0)


def seconds_of(deployment_config: Mapping[str, Any]) -> list[float]:
    """Return the settings of a deployment that say when Serve kills a replica, as ``SERVE_DEFAULTS_S`` lists them."""
    given = {name: deployment_config.get(name) for name in SERVE_DEFAULTS_S}  # Serve itself says what is no number
    return [float(each) if isinstance(each := given[name], int | float) else SERVE_DEFAULTS_S[name] for name in given]


async def run_shutdown_hooks(start: Start, budget_s: float) -> list[Exception]:
    """Finish what lasts until then, and run the hooks, one by one, each for at most the time that is left.

    Returns:
        The failures, which are logged.
    """
    start.record_disabled("on_shutdown")
    hooks = [*start.spans.take(lambda hook: True), *start.selection.by_point["on_shutdown"]]
    if not hooks:
        return []
    loop = asyncio.get_running_loop()
    end_s = loop.time() + budget_s
    failures: list[Exception] = []
    limit = f"the {budget_s:g} s of the hooks at {POINT}"
    consequence = f"the replica stops; its hooks have {budget_s:g} s for that"
    dispatcher = start.new_dispatcher()  # that of the start is closed by now
    with Progress(start.model_id) as progress:
        async with dispatcher:
            for hook in hooks:
                left_s = round(end_s - loop.time(), 1)
                if left_s <= 0:
                    why = f"{limit} were over"
                    start.trace.did_not_run(hook, "skipped", why)
                    logger.error("model %r: hook %s at %s did not run: %s", start.model_id, hook.ref, hook.where, why)
                    continue
                with progress.waiting_for(f"{hook.ref} at {POINT}"):
                    limited = [hook.limited_to(left_s, limit)]
                    failures += await run_each(dispatcher, limited, start.ctx, consequence=consequence)
    return failures
