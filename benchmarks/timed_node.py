"""The node's side of a timed start. Like the real one it imports nothing heavy."""

from __future__ import annotations

import pickle
import time
from importlib import import_module
from typing import Any

from .marks import mark, part, process_start_s


def run_packed_task(data: bytes, limit_s: float, *news: Any) -> bytes:
    """Do a node's task, with a stopwatch around the imports and around the rest."""
    mark("node: process", process_start_s())
    mark("node: begins")
    begun_s = time.perf_counter()
    entry = import_module("serve_llm_hooks.ray.node_entry")
    imported_s = time.perf_counter()
    mark("node: imported")
    packed: bytes = entry.run_packed_task(data, limit_s, *news)
    done_s = time.perf_counter()
    mark("node: done")
    hooks_s = sum(event.duration_s for event in pickle.loads(packed).events)
    part("node: imports", imported_s - begun_s)
    part("node: task", done_s - imported_s - hooks_s)
    return packed
