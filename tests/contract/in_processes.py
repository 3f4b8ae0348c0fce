"""What each process of the third wing does first. Nodes import this module: it is kept light."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from serve_llm_hooks_testing import FakePlacementGroup
from serve_llm_hooks_testing._simulation.simulated_cluster import SimulatedCluster

from . import wing

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_fake_group(node_names: Sequence[str], numbers: Sequence[int]) -> FakePlacementGroup:
    """A group with a bundle on each of these nodes."""
    return FakePlacementGroup([node_names[number] for number in numbers])


def prepare(node_names: Sequence[str], begun_s: float) -> None:
    """Give a process what the wing has, and a clock on which no two moments are the same, in no two processes."""
    wing.make_group = partial(make_fake_group, node_names)
    clock = SimulatedCluster.clock

    def ordered(self: SimulatedCluster) -> float:
        return clock(self) + (time.perf_counter() - begun_s) * 1e-6  # all processes of a machine have one such clock

    SimulatedCluster.clock = ordered  # type: ignore[method-assign]  # for as long as this process lives
