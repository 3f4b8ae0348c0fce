"""Make up the nodes of a placement group, as Ray would tell them."""

from __future__ import annotations

from serve_llm_hooks._core.node import Node


def made_up_node(node_id: str) -> Node:
    """Return a node as Ray would tell it: ``"node-0"`` has the address ``"10.0.0.1"``, and so on."""
    number = node_id.removeprefix("node-")
    if not number.isdigit():
        return Node(node_id)
    high, low = divmod(int(number) + 1, 256)
    return Node(node_id, f"10.0.{high}.{low}", node_id)
