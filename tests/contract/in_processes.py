"""Set up each process of the third wing. Nodes import this module: it is kept light."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from serve_llm_hooks_testing import FakePlacementGroup
from serve_llm_hooks_testing._simulation.simulated_cluster import SimulatedCluster

from . import wing

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_fake_group(node_names: Sequence[str], numbers: Sequence[int]) -> FakePlacementGroup:
    """A group with a bundle on each of these nodes."""
    return FakePlacementGroup([node_names[number] for number in numbers])


def now_s() -> float:
    """The clock that all processes of a machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def prepare(node_names: Sequence[str], begun_s: float) -> None:
    """Give a process what the wing has, and a clock on which no two moments are the same, in no two processes."""
    wing.make_group = partial(make_fake_group, node_names)
    clock = SimulatedCluster.clock

    def ordered(self: SimulatedCluster) -> float:
        return clock(self) + (now_s() - begun_s) * 1e-6

    SimulatedCluster.clock = ordered  # type: ignore[method-assign]  # for as long as this process lives
    _mark_default_groups()


def _mark_default_groups() -> None:
    """Let a default group know that it is one, wherever it gets: it arrives in other processes as a copy."""
    defaults, acquire = SimulatedCluster.defaults, SimulatedCluster.acquire_placement_group

    def marked_defaults(self: SimulatedCluster, llm_config: Any) -> Any:
        found = defaults(self, llm_config)
        return found._replace(placement_group=_marked(found.placement_group))

    async def marked(self: SimulatedCluster, llm_config: Any) -> Any:
        return _marked(await acquire(self, llm_config))

    SimulatedCluster.defaults = marked_defaults  # type: ignore[method-assign]  # for as long as this process lives
    SimulatedCluster.acquire_placement_group = marked  # type: ignore[method-assign]  # for as long as this process lives


def _marked(group: Any) -> Any:
    if group is not None:
        vars(group)["is_the_default"] = True
    return group


def is_default(group: object, default_group: object) -> bool:
    """Return True for the default group, or a copy of it out of another process."""
    return group is default_group or getattr(group, "is_the_default", False)
