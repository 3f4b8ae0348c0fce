"""``--fail``: what breaks in a dry run, in a word and its place."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

from serve_llm_hooks import HOOK_POINTS, ServeLLMHooksError
from serve_llm_hooks_testing import (
    engine_fails,
    failing_download,
    lost_node,
    missing_module,
    replica_dies,
    slow_download,
    unschedulable,
)

from .refused import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from serve_llm_hooks import HookName
    from serve_llm_hooks_testing import Fault

REPLICAS_NODE = "node-0"

# Each word, the parts that come after it, and the fault of them.
FAULTS: dict[str, tuple[tuple[str, ...], Callable[..., Fault]]] = {
    "download": (("NODE",), failing_download),
    "slow-download": (("NODE", "SECONDS"), lambda node, seconds: slow_download(node, _seconds(seconds))),
    "node": (("NODE",), lambda node: _lost(node)),
    "module": (("NODE", "MODULE"), missing_module),
    "placement-group": ((), unschedulable),
    "engine": ((), engine_fails),
    "replica": (("POINT",), lambda point: _dies_at(point)),
}
WRITTEN = ", ".join(":".join((word, *parts)) for word, (parts, _) in FAULTS.items())


def fault_of(text: str) -> Fault:
    """Return the fault that is meant, as in ``download:node-2``.

    Raises:
        Refused: none is.
    """
    word, *parts = text.split(":")
    wanted, make = FAULTS.get(word, ((), None))
    if make is None or len(parts) != len(wanted) or not all(parts):
        raise Refused(f"--fail {text}: it is one of {WRITTEN}; nodes are {REPLICAS_NODE} (the replica's), node-1, ...")
    try:
        return make(*parts)
    except (Refused, ServeLLMHooksError) as error:
        raise Refused(f"--fail {text}: {error}") from None


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise Refused(f"SECONDS is a number, 0 or more, as in slow-download:node-1:300, and not {text!r}")
    return found


def _lost(node: str) -> Fault:
    if node == REPLICAS_NODE:
        raise Refused(f"the replica itself is on {node}; its end is --fail replica:POINT")
    return lost_node(node)


def _dies_at(name: str) -> Fault:
    point = HOOK_POINTS.get(name)
    if point is not None and point.on_node:
        raise Refused("that point runs on nodes; the end of a node is --fail node:NODE")
    if point is not None and point.in_process:
        raise Refused("that point runs in the engine's processes, and the replica's is one of several")
    if point is not None and point.during == "shutdown":
        raise Refused("the start is over by then, and nothing starts the replica again")
    return replica_dies(cast("HookName", name))  # which says what is no point
