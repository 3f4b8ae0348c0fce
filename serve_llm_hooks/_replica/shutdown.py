"""The end of a replica's life: ``on_shutdown``, after a good start, within the time that is left."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .._core.dispatch import Dispatcher
from .._observe.clean_up import run_each
from .._observe.progress import Progress

if TYPE_CHECKING:
    from .start import Start


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

RESERVED_S = 2.0
"""How much of Serve's time for a replica's end is left for what comes after the hooks: the engine's own end."""

DEFAULT_BUDGET_S = 16.0
"""What the hooks have where nothing is set: Serve's 20 s, less its 2 s wait for requests, less ``RESERVED_S``."""

POINT = "on_shutdown"


async def run_shutdown_hooks(start: Start, budget_s: float) -> list[Exception]:
    """Run the hooks one by one, each for at most the time that is left; return the failures, which are logged."""
    start.record_disabled("on_shutdown")
    hooks = start.selection.by_point["on_shutdown"]
    if not hooks:
        return []
    loop = asyncio.get_running_loop()
    end_s = loop.time() + budget_s
    failures: list[Exception] = []
    limit = f"the {budget_s:g} s of the hooks at {POINT}"
    consequence = f"the replica stops; its hooks have {budget_s:g} s for that"
    # One of its own: that of the start is closed by now.
    dispatcher = Dispatcher(
        start.model_id, trace=start.trace, on_error=start.defaults.on_error, variables=start.dispatcher.variables
    )
    with Progress(start.model_id) as progress:
        async with dispatcher:
            for hook in hooks:
                left_s = round(end_s - loop.time(), 1)
                if left_s <= 0:
                    why = f"{limit} were over"
                    start.trace.did_not_run(hook, "skipped", why)
                    logger.error("model %r: hook %s at %s did not run: %s", start.model_id, hook.ref, POINT, why)
                    continue
                with progress.waiting_for(f"{hook.ref} at {POINT}"):
                    limited = [hook.limited_to(left_s, limit)]
                    failures += await run_each(dispatcher, limited, start.ctx, consequence=consequence)
    return failures
