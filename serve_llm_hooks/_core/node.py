"""``Node``: a node of the cluster, and the one way in which messages write it."""

from __future__ import annotations

from .named_tuple import NamedTuple

_WHOLE = 12  # a longer id is cut; Ray's have 56 digits
_SHOWN = 8


class Node(NamedTuple):
    """A node of the cluster.

    Attributes:
        node_id: its id.
        address: its IP address; empty where it is not known.
        hostname: its host's name; empty where it is not known.

    Example:
        >>> print(Node("1a2b3c4d5e6f7a8b9c0d", "10.0.0.7", "gpu-3"))
        node 1a2b3c4d… (10.0.0.7, gpu-3)
    """

    node_id: str
    address: str = ""
    hostname: str = ""

    def __str__(self) -> str:
        return f"node {self.label}"

    @property
    def label(self) -> str:
        """The node without the word, for lists and tables."""
        shown = self.node_id if len(self.node_id) <= _WHOLE else f"{self.node_id[:_SHOWN]}…"
        places = [place for place in dict.fromkeys((self.address, self.hostname)) if place not in ("", shown)]
        return f"{shown} ({', '.join(places)})" if places else shown
