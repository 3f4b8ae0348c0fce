"""Placement groups on a fake cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import HarnessError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class FakePlacementGroup:
    """A placement group on a fake cluster, for hooks that create or replace the group.

    Args:
        node_ids: the node of each bundle, in the order of the bundles.

    Raises:
        HarnessError: a single node, and no list of nodes.

    Example:
        >>> from serve_llm_hooks_testing import FakePlacementGroup
        >>> FakePlacementGroup(node_ids=("node-0", "node-3")).node_ids
        ('node-0', 'node-3')
    """

    node_ids: tuple[str, ...] = ()

    def __init__(self, node_ids: Sequence[str]) -> None:
        """Make a group with a bundle on each of these nodes."""
        if isinstance(node_ids, str):  # a sequence of strings too: its letters
            raise HarnessError(f"FakePlacementGroup takes a list of nodes, as in [{node_ids!r}], not {node_ids!r}")
        object.__setattr__(self, "node_ids", tuple(node_ids))
