"""The steps of a replica's process before its start: what Python, Ray and Serve do there until it begins."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from serve_llm_hooks_engine.process_time import process_start_s

from . import prewarm

if TYPE_CHECKING:
    from .._core.trace import Trace

_LONGEST_S = 60.0  # a process that is older was waiting for work: Ray begins some before they are needed
_imports_begin_s: float | None = None


def imports_begin() -> None:
    """Note that Serve begins to import the server's class now."""
    global _imports_begin_s
    if _imports_begin_s is None:
        _imports_begin_s = time.time()


def add_steps(trace: Trace) -> None:
    """Add the steps ``process`` and ``serve`` to the trace of a start that has just begun, if this is a replica's.

    Without the import of :mod:`.prewarmed`, as with SGLang, all of it is ``process``.
    """
    from .._core.event import StartStep  # not among the first imports of a replica

    begun_s = min((step.start_s for step in trace.steps), default=None)
    if begun_s is None or not prewarm.replica_name():
        return
    imports_s = begun_s if _imports_begin_s is None else _imports_begin_s
    times = [("serve", imports_s, begun_s)]
    with contextlib.suppress(OSError, ValueError, IndexError):  # no Linux
        times.insert(0, ("process", process_start_s(), imports_s))
    node_id, *place = trace.node
    trace.steps = (
        *(
            StartStep(name, node_id, trace.process_id, start_s, end_s, False, None, *place)
            for name, start_s, end_s in times
            if 0 < end_s - start_s <= _LONGEST_S
        ),
        *trace.steps,
    )
