"""How faults strike: small things that travel with a start, and go off at their point."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import Hook
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._node.packing import pack_hooks

if TYPE_CHECKING:
    from serve_llm_hooks import HookName
    from serve_llm_hooks._node.task import PackedHook

__all__ = ["ProcessDied", "death_hook", "packed_death", "packed_missing_module"]

# After every hook of a point, whatever order= they have.
_LAST = 2**63


class ProcessDied(GeneratorExit):
    """The process is gone: raised beside the hooks, since one that a hook raises is the hook's failure."""

    def __init__(self, point: HookName) -> None:
        super().__init__(point)
        self.point = point


class _DeathHook(Hook):
    """Ends its process when it would be called."""

    __slots__ = ()

    @property
    def is_async(self) -> bool:
        if hasattr(self, "must_run_alone"):  # it has been made, and is read to be called
            raise ProcessDied(self.point)
        return True

    @is_async.setter
    def is_async(self, value: bool) -> None: ...

    def __reduce__(self) -> tuple[Any, ...]:
        return (death_hook, (self.point,))


def _death(ctx: Any) -> None:
    """Stand for the function that every hook has."""


def death_hook(point: HookName) -> Hook:
    """A hook that is the end of its process. It leaves no line in the trace, since it does not end."""
    return _DeathHook(_death, HookOptions(point, order=_LAST))


def packed_death(point: HookName) -> PackedHook:
    """The same for a node."""
    (packed,) = pack_hooks([death_hook(point)])
    return packed


def packed_missing_module(hook: PackedHook, module: str) -> PackedHook:
    """A hook that cannot be unpacked where its module is missing; others as they are."""
    home = hook.ref.partition(":")[0]
    if home != module and not home.startswith(f"{module}."):
        return hook
    return replace(hook, data=pickle.dumps(_Missing(home)))


class _Missing:
    """Unpickles to what importing a missing module raises."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Any, ...]:
        return (_raise_missing, (self.module,))


def _raise_missing(module: str) -> None:
    raise ModuleNotFoundError(f"No module named {module!r}", name=module)
