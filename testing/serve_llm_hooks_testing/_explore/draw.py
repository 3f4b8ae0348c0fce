"""Draw a schedule from a seed: the same seed gives the same schedule."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import HOOK_POINTS

from ..faults import (
    engine_answers_error,
    engine_fails,
    failing_download,
    hook_fails,
    lost_node,
    missing_module,
    replica_dies,
    unschedulable,
)
from .schedule import MOMENTS, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from serve_llm_hooks import Hook, HookName

    from ..faults import Fault
    from ..run import FakeRun

_DEADLY: tuple[HookName, ...] = tuple(
    row.name for row in HOOK_POINTS.values() if row.where == "replica" and row.during == "start"
)
_LOST_AT: tuple[HookName | None, ...] = (None, "on_before_node_download", "on_after_node_download")


@dataclass(frozen=True)
class Facts:
    """Facts that schedules are drawn for.

    Attributes:
        nodes: how many there are at most.
        hooks: the hooks of the model.
        modules: the modules that nodes import.
    """

    nodes: int
    hooks: Sequence[Hook]
    modules: Sequence[str]


def draw(seed: int, facts: Facts, play: Callable[[Schedule], FakeRun]) -> Schedule:
    """Return the schedule of a seed.

    Args:
        seed: the seed.
        facts: what it is for.
        play: runs a start, to see when its hooks are at work; at such a moment it is cancelled, or its process dies.
    """
    rng = random.Random(seed)
    nodes = facts.nodes if rng.random() < 0.5 else rng.randint(1, facts.nodes)
    schedule = _times(rng, nodes)
    kinds = list(_KINDS)
    faults: list[Fault] = []
    moments: list[str] = []
    for _ in range(rng.choices((0, 1, 2), (1, 6, 3))[0]):
        kind = rng.choices(kinds, [_KINDS[each] for each in kinds])[0]
        kinds.remove(kind)
        moments += [kind] if kind in MOMENTS else []
        fault = _fault(rng, kind, nodes, facts)
        faults += [] if fault is None else [fault]
    schedule = replace(schedule, faults=faults)
    if not moments:
        return schedule
    run = play(schedule)
    at: dict[str, Any] = {name: _moment(rng, run) for name in moments}
    return replace(schedule, **at)


# Each kind of fault, and how often it is drawn, beside the others.
_KINDS = {
    "cancelled_after_s": 5,
    "dies_after_s": 3,
    "death": 4,
    "hook": 4,
    "download": 4,
    "node": 2,
    "engine": 2,
    "group": 1,
    "module": 1,
    "answers": 1,
}


def _times(rng: random.Random, nodes: int) -> Schedule:
    """Return when nodes begin and how long things take there: often so that they get into each other's way."""
    names = [f"node-{index}" for index in range(nodes)]
    together = rng.random() < 0.5
    begins_s = {name: round(rng.uniform(0, 0.02), 4) if together else round(rng.uniform(0, 30), 2) for name in names}
    differ = not together or rng.random() < 0.5
    download_s = {name: round(rng.uniform(0, 60), 2) for name in names} if differ else {}
    slow = rng.random() < 0.75
    awaits_s = {name: round(rng.uniform(0.001, 0.01), 4) for name in names} if slow else {}
    return Schedule(nodes, (), begins_s, download_s, awaits_s)


def _fault(rng: random.Random, kind: str, nodes: int, facts: Facts) -> Fault | None:
    """Return a fault of a kind; ``None`` where there is none of it."""
    node = f"node-{rng.randrange(nodes)}"
    match kind:
        case "death":
            times = 1 if rng.random() < 0.8 else 2
            return replica_dies(rng.choice(_DEADLY), times=times, restart_s=round(rng.uniform(0, 10), 1))
        case "hook":
            return _failing_hook(rng, node, facts)
        case "download":
            after_s = round(rng.uniform(0, 30), 2) if rng.random() < 0.7 else None
            return failing_download(node, after_s=after_s, quietly=rng.random() < 0.2)
        case "node" if node != "node-0":
            return lost_node(node, rng.choice(_LOST_AT), noticed_after_s=round(rng.uniform(0, 10), 1))
        case "engine":
            return engine_fails()
        case "group":
            return unschedulable(after_s=round(rng.uniform(0, 1800), 0))
        case "module" if facts.modules:
            return missing_module(node, rng.choice(facts.modules))
        case "answers":
            return engine_answers_error()
    return None


def _failing_hook(rng: random.Random, node: str, facts: Facts) -> Fault | None:
    hooks = [hook for hook in facts.hooks if HOOK_POINTS[hook.point].during == "start"]
    if not hooks:
        return None
    hook = rng.choice(hooks)
    everywhere = not HOOK_POINTS[hook.point].on_node or rng.random() < 0.3
    return hook_fails(hook.path, node=None if everywhere else node)


def _moment(rng: random.Random, run: FakeRun) -> float:
    """Return a moment of a start: mostly one at which a hook is at work."""
    calls = [event for start in (*run.earlier_starts, run) for event in start.trace if event.ran]
    where = rng.random()
    if not calls or rng.random() < 0.3:
        return round(where * run.elapsed_s, 4)
    event = rng.choice(calls)
    return round(event.start_s + where * event.duration_s, 4)
