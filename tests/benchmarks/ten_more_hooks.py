"""Ten more hooks beside those of ``ten_hooks``, with what each process has for itself: a cache, a guard, a counter."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import Counter
from typing import TYPE_CHECKING

from serve_llm_hooks import ask, hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx, NodeCtx

log = logging.getLogger("acme.more")
_calls: Counter[str] = Counter()


@functools.cache
def limits() -> dict[str, int]:
    return {"free_gb": 50}


def count(name: str) -> None:
    if not _calls:
        log.info("the first of this process is %s", name)
    _calls[name] += 1


@hook("on_before_init", model_id="benchmark")
async def register(ctx: CallbackCtx) -> None:
    await asyncio.sleep(1)
    count("register")


@hook("on_before_download", model_id="benchmark")
def plan(ctx: CallbackCtx) -> None:
    count("plan")


@hook("on_before_node_download", model_id="benchmark", after="check_disk")
def compare(ctx: NodeCtx) -> None:
    count("compare")
    ctx.custom_data["enough"] = ctx.custom_data["free_gb"] > limits()["free_gb"]


@hook("on_after_node_download", model_id="benchmark")
async def verify(ctx: NodeCtx) -> None:
    await asyncio.sleep(3)
    count("verify")


@hook("on_after_node_engine_init", model_id="benchmark")
def collect(ctx: NodeCtx) -> None:
    ctx.custom_data["collected"] = True


@hook("on_after_engine_init", model_id="benchmark")
async def ask_once(ctx: CallbackCtx) -> None:
    await ask(ctx, "Hello!", max_tokens=1)


@hook("on_after_init", model_id="benchmark")
def count_up(ctx: CallbackCtx) -> None:
    log.info("%d hooks in the replica", sum(_calls.values()))


@hook("on_shutdown", model_id="benchmark")
async def deregister(ctx: CallbackCtx) -> None:
    await asyncio.sleep(1)


@hook("on_failure", model_id="benchmark")
def page(ctx: CallbackCtx) -> None:
    log.error("failed: %s", type(ctx.error).__name__)


@hook("on_node_failure", model_id="benchmark")
def clean_up(ctx: NodeCtx) -> None:
    ctx.custom_data.pop("unpacked", None)
