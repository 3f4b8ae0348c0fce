"""Sort the hooks of one point into the order in which they run."""

from __future__ import annotations

from contextlib import suppress
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from .errors import HookOrderError
from .options import start_of
from .points import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from graphlib import TopologicalSorter

    from .hook import Hook


def in_order(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
    """Return hooks of one point in the order in which they run.

    By ``order``, then as given; among the hooks whose ``before`` / ``after`` are met, the first in that order is next.

    Raises:
        HookOrderError: the constraints form a circle, one of their names means more than one hook, or they order what
            works in processes side by side.
    """
    ranked = sorted(hooks, key=lambda hook: hook.options.order)  # a stable sort: ties stay as given
    if not any(hook.options.before or hook.options.after for hook in ranked):
        return tuple(ranked)
    from graphlib import CycleError  # few hooks have constraints

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


def check_order(hooks: Iterable[Hook]) -> None:
    """Check the order of hooks for each model that they name on its own: two models' hooks never meet.

    A glob stands for a model that it matches. For hundreds of models with hundreds of hooks in common, all of that
    again for each would take seconds; so what no model can make impossible is left out.

    Raises:
        HookOrderError: as :func:`in_order`.
    """
    at: dict[str, list[Hook]] = {}
    model_ids = {"": None}
    for hook in hooks:
        at.setdefault(hook.point, []).append(hook)
        model_ids.update(dict.fromkeys(hook.options.model_ids))
    for together in at.values():
        suspects = _suspects(together)
        checked = set()
        for ours in _by_model(suspects, model_ids):
            if ours not in checked:
                checked.add(ours)
                in_order(suspects[index] for index in ours)


def _suspects(hooks: list[Hook]) -> list[Hook]:
    """Return the hooks that may have an impossible order for some model.

    They may be in a circle, have or be a name that means several hooks, or work side by side.

    Circles are looked for among the hooks of all models, with a node for each name in a constraint: no model has more.
    Of hooks that make a name ambiguous for the same models, one is enough.
    """
    called: dict[str, list[int]] = {name: [] for hook in hooks for name in _named_by(hook)}
    if not called:
        return []
    earlier: dict[object, list[object]] = {index: [] for index in range(len(hooks))}
    for index, hook in enumerate(hooks):
        for name in {hook.name, hook.path} & called.keys():
            called[name].append(index)
            earlier.setdefault(("after", name), []).append(index)
            earlier[index].append(("before", name))
        earlier[index] += [("after", name) for name in hook.options.after]
        for name in hook.options.before:
            earlier.setdefault(("before", name), []).append(index)
    found = {node for node in _in_circles(earlier) if isinstance(node, int)}
    several = {name for name, indices in called.items() if len({hooks[index].path for index in indices}) > 1}
    kept: dict[object, int] = {}
    for index, hook in enumerate(hooks):
        models = hook.options.model_ids
        for name in _named_by(hook):
            found.update(
                each for other in called[name] if _are_side_by_side(hook, hooks[other]) for each in (index, other)
            )
        for name in {*_named_by(hook)} & several:
            kept.setdefault((name, models), index)
        for name in {hook.name, hook.path} & several:
            kept.setdefault((name, hook.path, models), index)
    return [hooks[index] for index in sorted({*found, *kept.values()})]


def _named_by(hook: Hook) -> tuple[str, ...]:
    return (*hook.options.before, *hook.options.after)


def _in_circles(earlier: dict[object, list[object]]) -> set[object]:
    """Return the nodes of a graph that are in circles, or between two."""
    from graphlib import CycleError, TopologicalSorter

    later: dict[object, list[object]] = {}
    for node, others in earlier.items():
        for other in others:
            later.setdefault(other, []).append(node)
    left = {*earlier, *later}
    for graph in (earlier, later):
        sorter = TopologicalSorter({node: [other for other in graph.get(node, ()) if other in left] for node in left})
        with suppress(CycleError):
            sorter.prepare()
        while ready := sorter.get_ready():  # up to the circles
            sorter.done(*ready)
            left.difference_update(ready)
    return left


def _by_model(hooks: list[Hook], model_ids: Iterable[str]) -> Iterator[tuple[int, ...]]:
    """Yield for each model the indices of its hooks."""
    by_start: dict[str, list[int]] = {}  # by what a model's id begins with: matching each with each would be quadratic
    for index, hook in enumerate(hooks):
        for start in {start_of(pattern) for pattern in hook.options.model_ids or ("",)}:
            by_start.setdefault(start, []).append(index)
    for model_id in model_ids if hooks else ():
        starts = (model_id[:length] for length in range(len(model_id) + 1))
        near = {index for start in starts for index in by_start.get(start, ())}
        yield tuple(sorted(index for index in near if hooks[index].options.matches(model_id)))


def _constraints(ranked: list[Hook]) -> TopologicalSorter[int]:
    from graphlib import TopologicalSorter

    sorter: TopologicalSorter[int] = TopologicalSorter()
    called: dict[str, list[int]] = {}
    for index, hook in enumerate(ranked):
        called.setdefault(hook.name, []).append(index)
        called.setdefault(hook.path, []).append(index)
    for index, hook in enumerate(ranked):
        sorter.add(index)
        for name in hook.options.after:
            sorter.add(index, *_resolve(name, hook, "after", ranked, called))
        for name in hook.options.before:
            for later in _resolve(name, hook, "before", ranked, called):
                sorter.add(later, index)
    return sorter


def _resolve(name: str, owner: Hook, side: str, hooks: list[Hook], called: Mapping[str, list[int]]) -> list[int]:
    """Return the indices of the hooks that a ``before`` / ``after`` name means: of no function, or of one.

    Raises:
        HookOrderError: it means several, or one that works beside the owner.
    """
    found = called.get(name, [])
    beside = next((hooks[index] for index in found if _are_side_by_side(owner, hooks[index])), None)
    if beside is not None:
        raise HookOrderError(
            f"{side}={name!r} of {owner.path} at {owner.point} cannot be kept: on nodes, a hook that works in the "
            f"background ({(owner if owner.is_background else beside).path}) has a process of its own, beside the "
            f"others. Take {side}= away, or until=."
        )
    paths = sorted({hooks[index].path for index in found})
    if len(paths) > 1:
        raise HookOrderError(
            f"{side}={name!r} of {owner.path} at {owner.point} is ambiguous: {', '.join(paths)}. "
            f"Write one of these instead of the bare name."
        )
    return found


def _are_side_by_side(hook: Hook, other: Hook) -> bool:
    """Return True for two hooks on nodes that are in processes of their own: one works in the background."""
    return other is not hook and HOOK_POINTS[hook.point].on_node and (hook.is_background or other.is_background)
