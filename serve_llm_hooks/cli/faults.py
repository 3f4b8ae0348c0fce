"""``--fail``: what breaks in a dry run, in a word and its place."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple, cast

from serve_llm_hooks import HOOK_POINTS, ServeLLMHooksError
from serve_llm_hooks_testing import (
    different_path,
    engine_answers_error,
    engine_fails,
    engine_process_dies,
    failing_download,
    hook_fails,
    lost_node,
    missing_module,
    missing_plugin,
    node_process_dies,
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

# Each word with the parts that follow it, of which those in brackets may be left out, and the fault of them.
FAULTS: dict[str, Callable[..., Fault]] = {
    "download:NODE": failing_download,
    "slow-download:NODE:SECONDS": lambda node, seconds: slow_download(node, _seconds(seconds)),
    "other-path:NODE:PATH": different_path,
    "hook:HOOK[:NODE]": lambda hook, node: hook_fails(hook, "it fails (--fail)", node=node),
    "node:NODE[:POINT]": lambda node, point: _lost(node, point),
    "node-process:NODE:HOOK": lambda node, hook: node_process_dies(node, in_hook=hook),
    "module:NODE:MODULE": missing_module,
    "placement-group": unschedulable,
    "engine": engine_fails,
    "engine-process:PROCESS[:HOOK]": lambda process, hook: engine_process_dies(process, in_hook=hook),
    "plugin:PROCESS": missing_plugin,
    "answers": engine_answers_error,
    "replica:POINT": lambda point: _dies_at(point),
}
WRITTEN = ", ".join(FAULTS)
# What a part looks like, if it may hold a colon, or be told from one that does.
_PARTS = {"HOOK": "(.+?)", "PATH": "(.+)"}
_ENDINGS = {"NODE": r"(node-\d+)", "HOOK": "(.+)"}


class Given(NamedTuple):
    """A fault as ``--fail`` writes it.

    Attributes:
        fault: the fault.
        hook: the hook that it names; ``None`` if it names none.
    """

    fault: Fault
    hook: str | None


def fault_of(text: str) -> Given:
    """Return the fault that is meant, as in ``download:node-2``.

    Raises:
        Refused: none is.
    """
    for form, make in FAULTS.items():
        if (found := re.fullmatch(_pattern(form), text)) is None:
            continue
        try:
            fault = make(*found.groups())
        except (Refused, ServeLLMHooksError) as error:
            raise Refused(f"--fail {text}: {error}") from None
        return Given(fault, getattr(fault, "hook", None))
    raise Refused(
        f"--fail {text}: it is one of {WRITTEN} (what is in brackets may be left out); nodes are {REPLICAS_NODE} (the "
        "replica's), node-1, ..."
    )


def _pattern(form: str) -> str:
    """Return the regular expression of a form."""
    required, bracket, rest = form.partition("[:")
    word, *parts = required.split(":")
    pattern = "".join([re.escape(word), *(":" + _PARTS.get(part, "([^:]+)") for part in parts)])
    return pattern + (f"(?::{_ENDINGS.get(rest[:-1], '([^:]+)')})?" if bracket else "")


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 <= found < math.inf:
        raise Refused(f"SECONDS is a number, 0 or more, as in slow-download:node-1:300, and not {text!r}")
    return found


def _lost(node: str, name: str | None) -> Fault:
    if node == REPLICAS_NODE:
        raise Refused(f"the replica itself is on {node}; its end is --fail replica:POINT")
    point = None if name is None else HOOK_POINTS.get(name)
    if point is not None and not point.on_node:
        on_nodes = ", ".join(other for other, row in HOOK_POINTS.items() if row.on_node)
        raise Refused(f"that point does not run on nodes; those that do are {on_nodes}")
    return lost_node(node, cast("HookName | None", name))  # which says what is no point


def _dies_at(name: str) -> Fault:
    point = HOOK_POINTS.get(name)
    if point is not None and point.on_node:
        raise Refused("that point runs on nodes; the end of a node is --fail node:NODE")
    if point is not None and point.in_process:
        raise Refused("that point runs in the engine's processes; the end of one is --fail engine-process:PROCESS")
    if point is not None and point.during == "shutdown":
        raise Refused("the start is over by then, and nothing starts the replica again")
    return replica_dies(cast("HookName", name))  # which says what is no point
