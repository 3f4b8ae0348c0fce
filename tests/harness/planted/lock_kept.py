"""A lock file that stays when the start is cancelled or its process killed: the next start finds it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx


@hook("on_before_init", model_id="planted")
async def fetch_secrets(ctx: CallbackCtx) -> None:
    lock = Path(tempfile.gettempdir(), "secrets.lock")
    lock.touch(exist_ok=False)
    await asyncio.sleep(3)  # the vault answers
    ctx.custom_data["token"] = "t"
    lock.unlink()
