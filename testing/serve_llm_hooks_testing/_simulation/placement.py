"""Place the bundles of a placement group as Ray does, on nodes whose resources are declared."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")


class Room:
    """The resources that are left on the nodes while bundles are placed.

    Args:
        nodes: node id to its resources (``{"CPU": 8, "GPU": 1}``); ``None`` where none are declared: it has enough.
    """

    def __init__(self, nodes: Mapping[str, Mapping[str, float] | None]) -> None:
        self._left = {node_id: None if has is None else dict(has) for node_id, has in nodes.items()}

    def best(self, bundle: Mapping[str, float], node_ids: Iterable[str]) -> str | None:
        """Return the node of which most is left, as Ray's scorer has it; the first of equals; ``None`` if none fits."""
        scores = {node_id: self._score(bundle, node_id) for node_id in node_ids}
        fitting = [node_id for node_id, score in scores.items() if score >= 0]
        return max(fitting, key=lambda node_id: scores[node_id], default=None)

    def take(self, bundle: Mapping[str, float], node_id: str) -> bool:
        """Take a bundle's resources from a node, and return True; False if it has not enough."""
        if self._score(bundle, node_id) < 0:
            return False
        left = self._left[node_id]
        if left is not None:
            left.update({name: left.get(name, 0) - amount for name, amount in bundle.items()})
        return True

    def _score(self, bundle: Mapping[str, float], node_id: str) -> float:
        left = self._left[node_id]
        score = 0.0
        for name, amount in bundle.items():
            if not amount:
                continue
            if left is None:
                score += 1
                continue
            available = left.get(name, 0)
            if available < amount:
                return -1
            score += (available - amount) / available
        return score


def place(
    bundles: Sequence[Mapping[str, float]], strategy: str, nodes: Mapping[str, Mapping[str, float] | None]
) -> tuple[str, ...]:
    """Return the node of each bundle, in the order of the bundles; nothing if they cannot be placed.

    Ray places large and scarce bundles first. Where nodes are equally good, it takes any, and this the first.

    Example:
        >>> place([{"GPU": 1}, {"CPU": 1}], "STRICT_SPREAD", {"node-0": {"CPU": 4}, "node-1": {"CPU": 4, "GPU": 1}})
        ('node-1', 'node-0')
    """
    room = Room(nodes)
    if strategy == "STRICT_PACK":
        names = dict.fromkeys(name for bundle in bundles for name in bundle)
        together = {name: sum(bundle.get(name, 0) for bundle in bundles) for name in names}
        node_id = room.best(together, nodes)
        return () if node_id is None else (node_id,) * len(bundles)
    order = sorted(range(len(bundles)), key=lambda index: _size(bundles[index]), reverse=True)
    placed = (
        _spread(bundles, order, room, list(nodes), strategy)
        if "SPREAD" in strategy
        else (_packed(bundles, order, room, list(nodes)))
    )
    return tuple(placed[index] for index in range(len(bundles))) if len(placed) == len(bundles) else ()


def _packed(
    bundles: Sequence[Mapping[str, float]], order: Sequence[int], room: Room, candidates: list[str]
) -> dict[int, str]:
    """Fill the best node, then the next best."""
    placed: dict[int, str] = {}
    left = list(order)
    while left:
        node_id = room.best(bundles[left[0]], candidates)
        if node_id is None:
            break
        candidates.remove(node_id)
        placed.update({index: node_id for index in left if room.take(bundles[index], node_id)})
        left = [index for index in left if index not in placed]
    return placed


def _spread(
    bundles: Sequence[Mapping[str, float]], order: Sequence[int], room: Room, fresh: list[str], strategy: str
) -> dict[int, str]:
    """Give each bundle a fresh node; share nodes when there are no more, unless the strategy is strict."""
    placed: dict[int, str] = {}
    used: dict[str, None] = {}
    for index in order:
        node_id = room.best(bundles[index], fresh)
        if node_id is None and strategy == "SPREAD":
            node_id = room.best(bundles[index], used)
        if node_id is None:
            break
        room.take(bundles[index], node_id)
        placed[index] = node_id
        used[node_id] = None
        fresh = [each for each in fresh if each != node_id]
    return placed


def _size(bundle: Mapping[str, float]) -> tuple[float, list[tuple[str, float]], float, float]:
    """Return what decides which bundle is placed first: GPUs, what is special, memory, CPUs."""
    special = sorted((name, amount) for name, amount in bundle.items() if name not in ("GPU", "memory", "CPU"))
    return bundle.get("GPU", 0), special, bundle.get("memory", 0), bundle.get("CPU", 0)
