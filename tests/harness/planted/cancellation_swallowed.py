"""A loop that takes every error for "not yet": also that it is cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx


async def registry_answers(attempt: int) -> None:
    await asyncio.sleep(5)
    if attempt < 30:
        raise ConnectionError("not yet")


@hook("on_before_init", model_id="planted")
async def wait_for_registry(ctx: CallbackCtx) -> None:
    for attempt in range(60):
        try:
            await registry_answers(attempt)
            return
        except:  # noqa: E722  # the fault
            print("the registry does not answer yet")
    raise TimeoutError("the registry does not answer")
