"""Hooks at the end of a replica: they tell a file what they found, since nobody else can be asked by then."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from serve_llm_hooks import CallbackCtx


@hook("on_shutdown")
async def tell(ctx: CallbackCtx, *, file: str, what: str) -> None:
    """Ask the engine, and write down its answer."""
    answers = [answer async for answer in ctx.engine.chat(SimpleNamespace(model=ctx.model_id))]
    told = {
        "pid": os.getpid(),
        "what": what,
        "answer": answers[0].choices[0].message.content,
        "nodes": list(ctx.nodes),
        "before": [event.label.rpartition(":")[2] for event in ctx.trace],
    }
    with Path(file).open("a") as out:
        out.write(json.dumps(told) + "\n")


@hook("on_after_init", until="on_shutdown")
async def up(ctx: CallbackCtx) -> AsyncIterator[None]:
    """Leave a mark in the trace, and another one when the replica stops."""
    task = asyncio.current_task()
    yield
    assert asyncio.current_task() is task
    assert [answer async for answer in ctx.engine.chat(SimpleNamespace(model=ctx.model_id))]
