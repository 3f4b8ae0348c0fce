"""The hooks of Acme's deployments: its own hooks, and a ready-made one."""

from __future__ import annotations

from typing import Any

WARM_UP: dict[str, Any] = {
    "hook": "serve_llm_hooks.recipes:WarmUp",
    "kwargs": {"requests": ["hello"], "timeout_s": 30, "on_error": "warn"},
}
HOOKS: list[Any] = ["acme_llm.hooks", WARM_UP]
