"""What a scenario's hooks may ask of the wing that they run on, whichever it is. Imported on nodes: kept light."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

make_group: Callable[[Sequence[int]], Any]
"""A placement group over the run's nodes, by their numbers. The wing that runs sets it, in the replica's process."""
