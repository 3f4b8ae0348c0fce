"""The default placement group of a run: of ``group_nodes=``, or of the config's bundles on the nodes' resources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.messages import counted

from ..errors import HarnessError
from ..placement_group import FakePlacementGroup
from .accelerators import bundles_of
from .placement import place
from .settings import check_own_bundles

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .settings import ClusterSettings


def default_group(settings: ClusterSettings, config: Any, workers: int) -> FakePlacementGroup:
    """Return the group that a replica is in, or acquires.

    Raises:
        HarnessError: it would not be on ``node-0``, where the replica is, or lacks the replica's own bundles.
    """
    if not settings.places_bundles and not getattr(config, "placement_group_config", None):
        return settings.default_group
    under_serve = settings.in_group or settings.own_bundles is not None
    bundles = bundles_of(config, workers, with_replica=under_serve)
    strategy = (getattr(config, "placement_group_config", None) or {}).get("strategy", "PACK")
    node_ids = place(bundles, strategy, settings.node_resources)
    if under_serve and node_ids and node_ids[0] != settings.node_names[0]:
        raise HarnessError(
            f"Ray would place the replica's own bundle on {node_ids[0]}, and here the replica is on "
            f"{settings.node_names[0]}: give that node first in nodes=[...], or in_group=False"
        )
    check_own_bundles(settings.own_bundles, len(bundles))
    return FakePlacementGroup(node_ids, bundles=bundles, strategy=strategy)


def describe_group(group: FakePlacementGroup) -> str:
    """Return what a group asks for."""
    if group.node_ids:
        return str(list(group.node_ids))
    return f"{group.strategy} of {', '.join(map(str, group.bundle_specs)) or 'no bundle'}"


def describe_nodes(resources: Mapping[str, Mapping[str, float] | None]) -> str:
    """Return which nodes there are, and what they have."""
    names = list(resources)
    has = [f"{name} has {dict(node)}" for name, node in resources.items() if node is not None]
    return ", ".join(has) if has else f"there are {counted(len(names), 'node')}, {names[0]} to {names[-1]}"
