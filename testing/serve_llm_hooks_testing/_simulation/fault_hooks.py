"""Faults that happen where hooks run, as hooks and packed hooks that go to the replica or a node with the others."""

from __future__ import annotations

import pickle
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import Hook
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._node.packing import pack_hooks

from .process import die

if TYPE_CHECKING:
    from serve_llm_hooks import HookName
    from serve_llm_hooks._node.task import PackedHook

# After every hook of a point, whatever order= it has.
_LAST = 2**63


def death_hook(point: HookName) -> Hook:
    """Return a hook that kills its process. It leaves no line in the trace, since its call does not end."""
    return Hook(die, HookOptions(point, order=_LAST), {"point": point})


def packed_death_hook(point: HookName) -> PackedHook:
    """Return the same hook, packed for a node."""
    (packed,) = pack_hooks([death_hook(point)])
    return packed


def without_module(hook: PackedHook, module: str) -> PackedHook:
    """Return a packed hook as it is where a module is missing: if it needs the module, it cannot be unpacked."""
    home = hook.ref.partition(":")[0]
    if home != module and not home.startswith(f"{module}."):
        return hook
    return replace(hook, data=pickle.dumps(_MissingModule(home)))


class _MissingModule:
    """An object that cannot be unpickled, as if its module could not be imported."""

    def __init__(self, module: str) -> None:
        self.module = module

    def __reduce__(self) -> tuple[Any, ...]:
        return (_raise_missing, (self.module,))


def _raise_missing(module: str) -> None:
    raise ModuleNotFoundError(f"No module named {module!r}", name=module)
