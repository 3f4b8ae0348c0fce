"""``Selection``: the hooks of one start, made once, before anything of it happens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .named_tuple import NamedTuple
from .points import HOOK_POINTS
from .until import needs_processes

if TYPE_CHECKING:
    from .hook import Hook
    from .points import HookName


class Selection(NamedTuple):
    """The hooks of one start of one model.

    Attributes:
        by_point: the hooks that run, in their order, for every point.
        disabled: the hooks that ``SERVE_LLM_HOOKS_DISABLE`` turns off, each with the reason, for every point.
        sources: the modules and files of all hooks that the config brings, those for other models included: a node
            must allow them before it unpickles the config.
        disable_variable: the value of ``SERVE_LLM_HOOKS_DISABLE``; ``None`` where it is not set.
        unmatched: its entries that match no hook of this model, each with a suggestion or an empty string.
    """

    by_point: dict[HookName, tuple[Hook, ...]]
    disabled: dict[HookName, tuple[tuple[Hook, str], ...]]
    sources: tuple[str, ...] = ()
    disable_variable: str | None = None
    unmatched: tuple[tuple[str, str], ...] = ()

    @property
    def hooks(self) -> tuple[Hook, ...]:
        """The hooks that run, point by point."""
        return tuple(hook for hooks in self.by_point.values() for hook in hooks)

    @property
    def on_nodes(self) -> tuple[Hook, ...]:
        """The hooks that run on nodes."""
        return tuple(hook for hook in self.hooks if HOOK_POINTS[hook.point].on_node)

    @property
    def in_processes(self) -> tuple[Hook, ...]:
        """The hooks that run in each process of the engine."""
        return tuple(hook for hook in self.hooks if HOOK_POINTS[hook.point].in_process)

    @property
    def need_processes(self) -> tuple[Hook, ...]:
        """Those, and the hooks in the background that the engine's workers wait for."""
        return tuple(hook for hook in self.hooks if needs_processes(hook))
