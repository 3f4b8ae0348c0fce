"""Tells that it has been imported, in a file."""

from __future__ import annotations

import os
from pathlib import Path

from serve_llm_hooks import CallbackCtx, hook

if "TELL_TALE" in os.environ:
    Path(os.environ["TELL_TALE"]).touch()


@hook("on_before_init")
def tell(ctx: CallbackCtx) -> None: ...
