"""Hooks that log, before and after the root logger is silenced as a vLLM engine's start does it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx

ours = logging.getLogger("serve_llm_hooks.acme")
roots = logging.getLogger("acme")


@hook("on_before_init")
def before(ctx: CallbackCtx) -> None:
    ours.info("seen before the engine")


@hook("on_before_engine_init")
def silence(ctx: CallbackCtx) -> None:
    root = logging.getLogger()
    root.setLevel(logging.ERROR)  # what importing vllm.entrypoints.openai.api_server does
    for handler in root.handlers:
        handler.setLevel(logging.ERROR)


@hook("on_after_engine_init")
def after(ctx: CallbackCtx) -> None:
    ours.warning("warned after the engine")
    roots.warning("lost with the root")
