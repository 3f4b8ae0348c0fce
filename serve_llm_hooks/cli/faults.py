"""``--fail``: what breaks in a dry run, in a word and its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from serve_llm_hooks import ServeLLMHooksError
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

    from serve_llm_hooks_testing import Fault

# Each word, the parts that come after it, and the fault of them.
FAULTS: dict[str, tuple[tuple[str, ...], Callable[..., Fault]]] = {
    "download": (("NODE",), failing_download),
    "slow-download": (("NODE", "SECONDS"), lambda node, seconds: slow_download(node, float(seconds))),
    "node": (("NODE",), lost_node),
    "module": (("NODE", "MODULE"), missing_module),
    "placement-group": ((), unschedulable),
    "engine": ((), engine_fails),
    "replica": (("POINT",), lambda point: replica_dies(point)),
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
        raise Refused(f"--fail {text}: it is one of {WRITTEN}; nodes are node-0 (the replica's), node-1, ...")
    try:
        return make(*parts)
    except (ServeLLMHooksError, ValueError) as error:
        raise Refused(f"--fail {text}: {error}") from None
