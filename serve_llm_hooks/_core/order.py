"""Sort the hooks of one point into the order in which they run."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from .errors import HookOrderError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .hook import Hook


def in_order(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Return hooks of one point in the order in which they run.

    By ``order``, then as given; among the hooks whose ``before`` / ``after`` are met, the first in that order is next.

    Raises:
        HookOrderError: the constraints form a circle, or one of their names means more than one hook.
    """
    ranked = sorted(hooks, key=lambda hook: hook.options.order)  # a stable sort: ties stay as given
    if not any(hook.options.before or hook.options.after for hook in ranked):
        return tuple(ranked)
    sorter = _constraints(ranked)
    try:
        sorter.prepare()
    except CycleError as error:
        circle = " -> ".join(ranked[index].path for index in error.args[1])
        raise HookOrderError(
            f"before/after form a circle at {ranked[0].point}: {circle} (each must run before the next). "
            "Take one of these constraints away."
        ) from None
    ready = list(sorter.get_ready())
    heapify(ready)
    result = []
    while ready:
        index = heappop(ready)
        result.append(ranked[index])
        sorter.done(index)
        for freed in sorter.get_ready():
            heappush(ready, freed)
    return tuple(result)


def _constraints(ranked: list[Hook]) -> TopologicalSorter[int]:
    sorter: TopologicalSorter[int] = TopologicalSorter()
    for index, hook in enumerate(ranked):
        sorter.add(index)
        for name in hook.options.after:
            sorter.add(index, *_resolve(name, hook, "after", ranked))
        for name in hook.options.before:
            for later in _resolve(name, hook, "before", ranked):
                sorter.add(later, index)
    return sorter


def _resolve(name: str, owner: Hook, side: str, hooks: list[Hook]) -> list[int]:
    """Return the indices of the hooks that a ``before`` / ``after`` name means: of no function, or of one."""
    key = "path" if ":" in name else "name"
    found = [index for index, other in enumerate(hooks) if getattr(other, key) == name]
    paths = sorted({hooks[index].path for index in found})
    if len(paths) > 1:
        raise HookOrderError(
            f"{side}={name!r} of {owner.path} at {owner.point} is ambiguous: {', '.join(paths)}. "
            f"Write one of these instead of the bare name."
        )
    return found
