"""``InitializeNodeOutput``: what callers of ``initialize_node`` start their engine with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class InitializeNodeOutput:
    """The settings that the engine is started with.

    Attributes:
        placement_group: the group in which the engine's workers run.
        runtime_env: the workers' runtime environment.
        extra_init_kwargs: arguments that hooks added for the engine and its frontend.
    """

    placement_group: Any = None
    runtime_env: dict[str, Any] | None = None
    extra_init_kwargs: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show the names of what hooks decided, and not the values, which may be secrets."""
        from .messages import masked

        env = None if self.runtime_env is None else masked(self.runtime_env)
        kwargs = masked(self.extra_init_kwargs)
        return f"InitializeNodeOutput({self.placement_group!r}, runtime_env={env}, extra_init_kwargs={kwargs})"
