"""Nodes that read what the first one writes, and take it for granted that it has."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import NodeCtx


@hook("on_after_node_download", model_id="planted")
def share_template(ctx: NodeCtx) -> None:
    file = Path(os.environ["PLANTED_SHARED"], "chat_template.jinja")
    if ctx.is_local:
        file.write_text("{{ messages }}")
    ctx.custom_data["template"] = file.read_text()
