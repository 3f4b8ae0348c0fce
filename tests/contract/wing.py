"""Answer a scenario's hooks for the wing that they run on. Imported on nodes: kept light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

make_group: Callable[[Sequence[int]], Any]
"""A placement group over the run's nodes, by their numbers. The wing that runs sets it, in the replica's process."""
