"""A folder that is made without a look at whether it is there: a second start on the machine fails."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks import hook

if TYPE_CHECKING:
    from serve_llm_hooks import CallbackCtx


@hook("on_before_engine_init", model_id="planted")
def make_cache(ctx: CallbackCtx) -> None:
    folder = Path(tempfile.gettempdir(), "kernels", ctx.model_id)
    folder.mkdir(parents=True)
    ctx.extra_init_kwargs["compilation_config"] = {"cache_dir": str(folder)}
