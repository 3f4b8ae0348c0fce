"""Run the hooks of a clean-up: each of them, whatever becomes of the others, and what fails is logged."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from .._core.messages import is_small

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.dispatch import Dispatcher
    from .._core.hook import Hook


logger: logging.Logger = logging.getLogger("serve_llm_hooks")


async def run_each(dispatcher: Dispatcher, hooks: Sequence[Hook], ctx: object, *, consequence: str) -> list[Exception]:
    """Run hooks one by one: each has its clean-up to do. Return the failures, which are logged.

    Args:
        dispatcher: runs them.
        hooks: the hooks, in their order.
        ctx: their context.
        consequence: what a failure means, for the log.
    """
    failures: list[Exception] = []
    for hook in hooks:
        try:
            await dispatcher.run_point([hook], ctx)
        except Exception as error:
            log_error("%s (%s)", error, consequence, error=error)
            failures.append(error)
    return failures


def log_error(line: str, *args: object, error: BaseException | None = None) -> None:
    """Log an error, with its traceback unless that is huge. A log handler that fails keeps no hook from running."""
    with contextlib.suppress(Exception):
        logger.error(line, *args, exc_info=error if error is not None and is_small(error) else None)
