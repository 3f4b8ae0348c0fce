"""Hooks that travel to a node by reference: one opens files until it may open no more, one closes them."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import NodeCtx

_opened: list[int] = []


@hook("on_before_node_download")
def open_too_many(ctx: NodeCtx) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    while True:
        _opened.append(os.open(os.devnull, os.O_RDONLY))


@hook("on_node_failure")
def close_them(ctx: NodeCtx) -> None:
    while _opened:
        os.close(_opened.pop())
