"""Placement groups on a fake cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from serve_llm_hooks._core.messages import describe

from .errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence


class FakePlacementGroupID:
    """The id of a group, with the method of Ray's that hooks use."""

    def __init__(self) -> None:
        """Make a new one."""
        self._text = uuid4().hex

    def hex(self) -> str:
        """Return it as text."""
        return self._text

    def __eq__(self, other: object) -> bool:
        """Return True for an id with the same text."""
        return isinstance(other, FakePlacementGroupID) and self._text == other._text

    def __hash__(self) -> int:
        """Return a number that is the same for what is equal."""
        return hash(self._text)


class FakePlacementGroup:
    """A placement group on a fake cluster, for hooks that create or replace the group.

    It has what hooks use of Ray's: ``id``, ``bundle_specs``, ``bundle_count``, ``is_empty``, ``wait()``, and
    ``ready()`` to await. As in Ray, two groups are equal if they are one group: by their id, and not by their nodes.

    Args:
        node_ids: the node of each bundle, in the order of the bundles.
        bundles: what each bundle asks for. Default: a CPU.
        strategy: how they were placed, for messages.

    Raises:
        HarnessError: nodes that are no list of ids, or not as many bundles as nodes.

    Example:
        >>> from serve_llm_hooks_testing import FakePlacementGroup
        >>> group = FakePlacementGroup(node_ids=("node-0", "node-3"))
        >>> group.node_ids, group.bundle_count, group.bundle_specs[0]
        (('node-0', 'node-3'), 2, {'CPU': 1.0})
    """

    def __init__(
        self,
        node_ids: Sequence[str],
        *,
        bundles: Sequence[Mapping[str, float]] | None = None,
        strategy: str = "PACK",
    ) -> None:
        """Make a group with a bundle on each of these nodes."""
        if isinstance(node_ids, str):  # a sequence of strings too: its letters
            raise HarnessError(f"FakePlacementGroup takes a list of nodes, as in [{node_ids!r}], not {node_ids!r}")
        nodes: tuple[Any, ...] = tuple(node_ids) if isinstance(node_ids, list | tuple) else (None,)
        if not all(isinstance(each, str) and each for each in nodes):
            raise HarnessError(f"FakePlacementGroup takes a list of nodes, as in ['node-0'], not {describe(node_ids)}")
        specs = [{"CPU": 1}] * len(nodes) if bundles is None else bundles
        if nodes and len(specs) != len(nodes):
            raise HarnessError(f"FakePlacementGroup takes a bundle for each node: {len(specs)} for {len(nodes)} nodes")
        self.node_ids: tuple[str, ...] = nodes
        self.bundle_specs: list[dict[str, float]] = [
            {name: float(amount) for name, amount in each.items()} for each in specs
        ]
        self.strategy: str = strategy
        self.id: FakePlacementGroupID = FakePlacementGroupID()

    @property
    def bundle_count(self) -> int:
        """The number of its bundles."""
        return len(self.bundle_specs)

    @property
    def is_empty(self) -> bool:
        """``False``, as of every group that was made."""
        return False

    def ready(self) -> _Ready:
        """Return what can be awaited until the group is scheduled; on a fake cluster it is at once."""
        return _Ready(self)

    def wait(self, timeout_seconds: float = 30) -> bool:
        """Return whether it is scheduled."""
        return bool(self.node_ids)

    def __eq__(self, other: object) -> bool:
        """Return True for the same group."""
        return isinstance(other, FakePlacementGroup) and self.id == other.id

    def __hash__(self) -> int:
        """Return a number that is the same for what is equal."""
        return hash(self.id)

    def __repr__(self) -> str:
        """Name the nodes."""
        return f"FakePlacementGroup({list(self.node_ids)})"


class _Ready:
    """An awaitable that gives its group, as often as it is awaited."""

    def __init__(self, group: FakePlacementGroup) -> None:
        self._group = group

    def __await__(self) -> Generator[Any, None, FakePlacementGroup]:
        """Wait for nothing."""
        yield from ()
        return self._group
