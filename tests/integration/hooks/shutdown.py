"""Hooks at the end of a replica: they tell a file what they found, since nobody else can be asked by then."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx


@hook("on_shutdown")
async def tell(ctx: CallbackCtx, *, file: str, what: str) -> None:
    """Ask the engine, and write down its answer."""
    answers = [answer async for answer in ctx.engine.chat(SimpleNamespace(model=ctx.model_id))]
    told = {
        "pid": os.getpid(),
        "what": what,
        "answer": answers[0].choices[0].message.content,
        "nodes": len(ctx.nodes),
        "before": [event.name for event in ctx.trace],
    }
    with Path(file).open("a") as out:
        out.write(json.dumps(told) + "\n")


@hook("on_after_init")
def up(ctx: CallbackCtx) -> None:
    """Leave a mark in the trace."""
