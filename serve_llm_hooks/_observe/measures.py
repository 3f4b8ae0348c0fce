"""``measures_of``: a start in numbers, for the metrics of the cluster, with a bound to how many labels there are."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

from .._core.event import path_in
from .._core.named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import TypeAlias

    from .._core.event import HookEvent, StartStep

    Writer: TypeAlias = Callable[[str, Sequence[str], Sequence[HookEvent], Sequence[StartStep]], object]
    """Writes a start's numbers: from the model's id, the names of application and deployment, events and steps."""

OTHER = "other"
MOST_MODELS = 20
MOST_HOOKS = 100
_LONGEST = 200
_WHERE = ("application", "deployment", "model")
_HOOK = (*_WHERE, "point", "hook", "outcome")
_STEP = (*_WHERE, "outcome")

BOUNDARIES_S = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Metric(NamedTuple):
    """Describe what is measured under one name.

    Attributes:
        kind: how values of the same labels come together.
        labels: the names of its labels.
        description: what it is.
    """

    kind: Literal["counter", "histogram"]
    labels: tuple[str, ...]
    description: str


METRICS = {
    "serve_llm_hooks_starts_total": Metric("counter", _STEP, "Starts of replicas."),
    "serve_llm_hooks_start_seconds_total": Metric("counter", _STEP, "Seconds that starts of replicas took."),
    "serve_llm_hooks_start_duration_seconds": Metric("histogram", _STEP, "How long starts of replicas took."),
    "serve_llm_hooks_hook_runs_total": Metric("counter", _HOOK, "Calls of hooks."),
    "serve_llm_hooks_hook_seconds_total": Metric("counter", _HOOK, "Seconds that calls of hooks took."),
    "serve_llm_hooks_hook_duration_seconds": Metric("histogram", _HOOK, "How long calls of hooks took."),
    "serve_llm_hooks_downloads_total": Metric("counter", _STEP, "Downloads of nodes."),
    "serve_llm_hooks_download_seconds_total": Metric("counter", _STEP, "Seconds that downloads of nodes took."),
    "serve_llm_hooks_download_duration_seconds": Metric("histogram", _STEP, "How long downloads of nodes took."),
    "serve_llm_hooks_download_bytes_total": Metric("counter", _STEP, "Bytes that downloads of nodes have brought."),
}
"""The metrics by their names. In Prometheus, Ray puts ``ray_`` before each."""


class Measure(NamedTuple):
    """One value of one metric, with its labels."""

    metric: str
    value: float
    labels: dict[str, str]


def short(name: str) -> str:
    """Return a name as the value of a label: what is too long ends with a few characters that tell it from others."""
    clean = name.encode(errors="replace").decode()  # Ray sends it as UTF-8
    if len(clean) <= _LONGEST:
        return clean
    from hashlib import sha256  # only a long name pays for this import

    return f"{clean[: _LONGEST - 9]}-{sha256(clean.encode()).hexdigest()[:8]}"


class Bounded:
    """Let so many different values of a label through, and call all that come later ``other``.

    Args:
        most: how many.

    Example:
        >>> hooks = Bounded(2)
        >>> [hooks(name) for name in ("a", "b", "c", "a")]
        ['a', 'b', 'other', 'a']
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, name: str) -> str:
        """Return the name, or ``other``."""
        name = short(name)
        with self._lock:
            if name not in self._seen:
                if len(self._seen) >= self._most:
                    return OTHER
                self._seen.add(name)
            return name


class Bounds:
    """The labels of one process: what could be without end has a bound."""

    def __init__(self, models: int = MOST_MODELS, hooks: int = MOST_HOOKS) -> None:
        self.model: Bounded = Bounded(models)
        self.hook: Bounded = Bounded(hooks)


def measures_of(
    model_id: str,
    names: Sequence[str],
    events: Iterable[HookEvent],
    steps: Iterable[StartStep],
    bounds: Bounds,
) -> Iterator[Measure]:
    """Yield what is measured of a start.

    Args:
        model_id: the model.
        names: the application and the deployment; more is not looked at, and without Serve there are none.
        events: what hooks did. Those that did not run do not count.
        steps: its other steps.
        bounds: those of this process.
    """
    application, deployment = [*names, "", ""][:2]
    where = {"application": short(application), "deployment": short(deployment), "model": bounds.model(model_id)}
    for event in events:
        if event.ran:
            hook = bounds.hook(path_in(event.hook) + (" (finish)" if event.is_finish else ""))
            labels = {**where, "point": event.point, "hook": hook, "outcome": event.outcome}
            yield from _timed("hook", "hook_runs", event.duration_s, labels)
    for step in steps:
        if step.name in ("start", "download"):
            labels = {**where, "outcome": "failed" if step.failed else "ok"}
            yield from _timed(step.name, f"{step.name}s", step.duration_s, labels)
            if step.size_bytes is not None:
                yield Measure("serve_llm_hooks_download_bytes_total", float(step.size_bytes), labels)


def _timed(what: str, counted: str, took_s: float, labels: dict[str, str]) -> Iterator[Measure]:
    took_s = max(0.0, took_s)  # two readings of two clocks
    yield Measure(f"serve_llm_hooks_{counted}_total", 1.0, labels)
    yield Measure(f"serve_llm_hooks_{what}_seconds_total", took_s, labels)
    yield Measure(f"serve_llm_hooks_{what}_duration_seconds", took_s, labels)
