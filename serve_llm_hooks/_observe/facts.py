"""``Facts``: what advice needs to know of a good start, read off its trace."""

from __future__ import annotations

from collections import defaultdict
from functools import cached_property
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
        self._shared_on: dict[str | None, dict[float, float]] = {}

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
        if event.end_s <= event.start_s:
            return event.duration_s
        shared = self._shared(event.node_id if HOOK_POINTS[event.point].on_node else None)
        # The call itself is one of those that were going on.
        return event.duration_s - (shared[event.end_s] - shared[event.start_s])

    def _shared(self, node_id: str | None) -> dict[float, float]:
        """Return ``shared_s`` of what was on a node, or of everything."""
        if node_id not in self._shared_on:
            on_nodes = self._on_node.values() if node_id is None else [self._on_node[node_id]]
            self._shared_on[node_id] = shared_s(chain.from_iterable(on_nodes))
        return self._shared_on[node_id]

    @cached_property
    def first_s(self) -> dict[str, float]:
        """The time at which the first call at each point began."""
        found: dict[str, float] = {}
        for event in self.events:
            found[event.point] = min(event.start_s, found.get(event.point, event.start_s))
        return found

    def nodes_without(self, took_s: Callable[[str], float]) -> float:
        """Return by how many seconds the slowest node would have been faster.

        Args:
            took_s: the seconds that a node, named by its id, would not have needed.
        """
        slowest_s = max((node.duration_s for node in self.nodes), default=0.0)
        return slowest_s - max((node.duration_s - took_s(node.node_id) for node in self.nodes), default=0.0)

    @cached_property
    def nodes(self) -> list[StartStep]:
        """The work of each node before the engine's start."""
        return [step for step in self.named("node") if self.is_before_engine(step)]

    @property
    def workers_imported_s(self) -> float | None:
        """The time at which all of the engine's workers had imported vLLM; ``None`` where nothing is known of them."""
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


def shared_s(parts: Iterable[HookEvent | StartStep]) -> dict[float, float]:
    """Return for each moment at which a part began or ended: the seconds before it in which at least two were going on.

    Example:
        >>> shared_s([StartStep("nodes", "n", 7, 0, 3), StartStep("import", "n", 7, 2, 5)])
        {0: 0.0, 2: 0.0, 3: 1.0, 5: 1.0}
    """
    turns = [turn for each in parts if each.start_s < each.end_s for turn in ((each.start_s, 1), (each.end_s, -1))]
    found: dict[float, float] = {}
    going_on, total_s, last_s = 0, 0.0, 0.0
    for at_s, more in sorted(turns):
        if going_on >= 2:
            total_s += at_s - last_s
        going_on += more
        found[at_s] = total_s
        last_s = at_s
    return found


def short_name(event: HookEvent) -> str:
    """Return a hook as its author would name it: the function, or the class with its method."""
    return path_in(event.hook).rpartition(":")[2].rpartition("<locals>.")[2]
