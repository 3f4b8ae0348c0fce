"""Hooks that end their node's work, or are ended with it. Nodes import this module."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks import HookRegistry

if TYPE_CHECKING:
    from serve_llm_hooks import NodeCtx

hooks = HookRegistry()


def interrupt_soon() -> None:
    """Do what Ray's cancelling does: tell Python's main thread, which no signal of the system wakes up."""
    import _thread

    time.sleep(0.2)
    _thread.interrupt_main()


@hooks.hook("on_before_node_download")
async def cleans_up(ctx: NodeCtx) -> None:
    """Wait to be cancelled, and leave a file behind."""
    threading.Thread(target=interrupt_soon).start()
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.1)
        Path(ctx.custom_data["file"]).touch()


@hooks.hook("on_before_node_download", timeout_s=600)
async def cleans_up_in_a_task(ctx: NodeCtx) -> None:
    """Do the same where the dispatcher gives the hook a task of its own."""
    await cleans_up(ctx)


@hooks.hook("on_before_node_download")
async def interrupts(ctx: NodeCtx) -> None:
    """Raise what only a key press should."""
    raise KeyboardInterrupt("of its own")
