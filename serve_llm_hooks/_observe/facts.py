"""``Facts``: what advice needs to know of a good start, read off its trace."""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from .._core.event import HookEvent, StartStep, path_in
from .._core.points import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .._core.trace import Trace

RECIPES = "serve_llm_hooks.recipes"
_WHOLE = ("start", "node", "nodes", "engine")  # the steps that others are parts of


class Facts:
    """A good start.

    Attributes:
        took_s: the seconds of all of it.
        end_s: when it ended, in seconds since the epoch.
        engine: its step ``engine``.
        events: the calls of hooks that really ran.
        steps: its steps.
    """

    def __init__(self, start: StartStep, engine: StartStep, events: Sequence[HookEvent], steps: Sequence[StartStep]):
        self.took_s = start.duration_s
        self.end_s = start.end_s
        self.engine = engine
        self.events = events
        self.steps = steps
        self._on_node: dict[str, list[HookEvent | StartStep]] = defaultdict(list)
        parts: list[HookEvent | StartStep] = [*events, *(step for step in steps if step.name not in _WHOLE)]
        for each in parts:
            self._on_node[each.node_id].append(each)

    def named(self, name: str) -> list[StartStep]:
        """Return the steps of a name."""
        return [step for step in self.steps if step.name == name]

    def longest(self, name: str) -> StartStep | None:
        """Return the longest step of a name."""
        return max(self.named(name), key=lambda step: step.duration_s, default=None)

    def recipe(self, name: str) -> list[HookEvent]:
        """Return the calls of a ready-made hook, by the name of its class."""
        return [event for event in self.events if event.hook.startswith(RECIPES) and f":{name}." in event.hook]

    def calls(self) -> list[list[HookEvent]]:
        """Return the calls of each hook: on several nodes it has several."""
        found: dict[tuple[str, str], list[HookEvent]] = defaultdict(list)
        for event in self.events:
            found[event.hook, event.point].append(event)
        return list(found.values())

    def is_before_engine(self, each: HookEvent | StartStep) -> bool:
        """Return True if it was over when the engine's start began."""
        return each.end_s <= self.engine.start_s

    def alone_s(self, event: HookEvent) -> float:
        """Return for how long nothing else was going on; for a hook on a node, nothing else there."""
        on_node = HOOK_POINTS[event.point].on_node
        others = [self._on_node[event.node_id]] if on_node else list(self._on_node.values())
        beside = [
            (max(each.start_s, event.start_s), min(each.end_s, event.end_s))
            for each in chain.from_iterable(others)
            if each is not event
        ]
        return event.duration_s - together_s(beside)

    def nodes_without(self, took_s: Callable[[str], float]) -> float:
        """Return by how many seconds the slowest node would have been faster.

        Args:
            took_s: the seconds that a node, named by its id, would not have needed.
        """
        slowest_s = max((node.duration_s for node in self.nodes), default=0.0)
        return slowest_s - max((node.duration_s - took_s(node.node_id) for node in self.nodes), default=0.0)

    @property
    def nodes(self) -> list[StartStep]:
        """The work of each node before the engine's start."""
        return [step for step in self.named("node") if self.is_before_engine(step)]

    @property
    def workers_imported_s(self) -> float | None:
        """When the last of the engine's workers had imported vLLM; ``None`` where nothing is known of them."""
        imports = self.named("import")
        workers = [step for step in imports if step.process.startswith("worker")]
        return max((step.end_s for step in workers or imports), default=None)


def facts_of(trace: Trace) -> Facts | None:
    """Return the facts; ``None`` for a start that has failed, is not over, or whose engine is not in the trace."""
    start = next((step for step in trace.steps if step.name == "start"), None)
    engine = next((step for step in trace.steps if step.name == "engine"), None)
    if start is None or engine is None or any(step.failed for step in trace.steps):
        return None
    events = [event for event in trace if event.ran and event.end_s <= start.end_s and event.point in HOOK_POINTS]
    return Facts(start, engine, events, trace.steps)


def together_s(spans: Iterable[tuple[float, float]]) -> float:
    """Return the seconds in which at least one of some spans of time was going on.

    Example:
        >>> together_s([(0, 2), (1, 3), (5, 6), (9, 8)])
        4.0
    """
    total_s, until_s = 0.0, float("-inf")
    for start_s, end_s in sorted(spans):
        total_s += max(0.0, end_s - max(until_s, start_s))
        until_s = max(until_s, end_s)
    return total_s


def short_name(event: HookEvent) -> str:
    """Return a hook as its author would name it: the function, or the class with its method."""
    return path_in(event.hook).rpartition(":")[2].rpartition("<locals>.")[2]
