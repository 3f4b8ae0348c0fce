"""Tell what the nodes of the Ray cluster have, and whether they can ever hold a placement group."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

import ray

from .._core.node import Node

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


_RESOLUTION = 1e-4  # Ray's own for fractions of a resource; sums of floats are less exact


def autoscales() -> bool:
    """Return True if an autoscaler may still add the nodes that are missing, or if that cannot be told yet.

    Every head node runs one. Where it has no node types to launch, it lists each existing node as a type
    ``node_<id>``.
    """
    from ray.experimental.internal_kv import _internal_kv_get

    status = json.loads(_internal_kv_get("__autoscaling_status") or b"{}")
    report = status.get("autoscaler_report")
    if not (report and report["active_nodes"]):  # no report yet, or none that knows a node
        return True
    unmanaged = {f"node_{node['NodeID']}" for node in ray.nodes()}
    return not set(report["active_nodes"]) <= unmanaged


def describe_nodes() -> str:
    """Return the nodes and the resources of each, in words."""
    there = "; ".join(
        f"{node_of_ray(node)}: "
        + str({name: amount for name, amount in node["Resources"].items() if not name.startswith("node:")})
        for node in ray.nodes()
        if node["Alive"]
    )
    return f"the nodes have {there or 'nothing'} in total"


def node_of_ray(row: Mapping[str, Any]) -> Node:
    """Return a node of ``ray.nodes()``."""
    return Node(row["NodeID"], row.get("NodeManagerAddress") or "", row.get("NodeManagerHostname") or "")


def never_fits(bundles: Sequence[Mapping[str, float]], strategy: str) -> bool:
    """Return True if the connected cluster could not hold a placement group even if it were empty.

    False where that cannot be told: not connected, or an autoscaler may add nodes.
    """
    if not ray.is_initialized():
        return False
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if strategy == "STRICT_PACK":
        bundles = [_sum(bundles)]
    too_large = (
        (strategy == "STRICT_SPREAD" and len(bundles) > len(nodes))
        or not _fits(_sum(bundles), _sum(nodes))
        or not all(any(_fits(bundle, node) for node in nodes) for bundle in bundles)
    )
    return too_large and not autoscales()


def _fits(asked: Mapping[str, float], there: Mapping[str, float]) -> bool:
    return all(there.get(name, 0) >= amount - _RESOLUTION for name, amount in asked.items())


def _sum(resources: Iterable[Mapping[str, Any]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in resources:
        total.update(each)
    return total
