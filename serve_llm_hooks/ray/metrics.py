"""Write what starts were into Ray's metrics, which are in its Prometheus endpoint and its dashboards.

The process of a start sends them to Ray's agent on the node every ten seconds, and, with Ray 2.60, when Serve ends it.
The agent adds them up, and keeps them when the process is gone.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from ray.util.metrics import Counter, Histogram

from .._observe.measures import BOUNDARIES_S, METRICS, Bounds, measures_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.event import HookEvent, StartStep
    from .._observe.measures import Writer

VARIABLE = "SERVE_LLM_HOOKS_METRICS"
"""The environment variable that switches this off, with ``0``."""

_bounds = Bounds()
_metrics: dict[str, Counter | Histogram] = {}
_making = threading.Lock()


def metrics_writer() -> Writer | None:
    """Return what writes a start into Ray's metrics; ``None`` where that is switched off."""
    return None if os.environ.get(VARIABLE) == "0" else _write


def _write(model_id: str, names: Sequence[str], events: Sequence[HookEvent], steps: Sequence[StartStep]) -> None:
    for each in measures_of(model_id, names, events, steps, _bounds):
        metric = _metric(each.metric)
        if isinstance(metric, Histogram):
            metric.observe(each.value, each.labels)
        elif each.value > 0:  # Ray refuses 0
            metric.inc(each.value, each.labels)


def _metric(name: str) -> Counter | Histogram:
    with _making:
        if name not in _metrics:
            kind, labels, text = METRICS[name]
            counts = kind == "counter"
            _metrics[name] = (
                Counter(name, text, labels) if counts else Histogram(name, text, list(BOUNDARIES_S), labels)
            )
        return _metrics[name]
