"""``parts_of``: a start as a tree, each part inside the one that it is a part of, for whoever shows it so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .._core.points import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .._core.event import HookEvent, StartStep

_BAD = ("failed", "warned", "timed_out", "cancelled")
_OF_A_NODE = ("node", "download")
_OURS = "serve_llm_hooks."


@dataclass
class Part:
    """A part of a start: the start itself, a step, a hook point, a hook.

    Attributes:
        name: what it is called.
        start_s: when it started, in seconds since the epoch.
        end_s: when it ended.
        attributes: what else is known.
        failed: whether it has failed.
        why: the error in one line; empty where it is not known.
        inside: its own parts.
    """

    name: str
    start_s: float
    end_s: float
    attributes: dict[str, str | int]
    failed: bool = False
    why: str = ""
    inside: list[Part] = field(default_factory=list)


class _Tree:
    """The parts of one start, or of a replica's end."""

    def __init__(self, root: Part, steps: Sequence[StartStep]) -> None:
        self.root = root
        self._points: dict[tuple[str, str, int, str], Part] = {}
        self._nodes: dict[tuple[str, int], Part] = {}
        self._all_nodes: list[Part] = []
        self._engine: Part | None = None
        for step in sorted(steps, key=lambda step: (step.name in _OF_A_NODE, step.name == "download")):
            if step.name != "start" and not step.process:
                self._add_step(step)
        for step in steps:
            if step.process:
                self._of_engine(step.start_s).inside.append(_part_of_step(step))

    def _add_step(self, step: StartStep) -> None:
        part = _part_of_step(step)
        where = (step.node_id, step.process_id)
        if step.name == "node":
            around = [each for each in self._all_nodes if each.start_s <= step.start_s]
            (around[-1] if around else self.root).inside.append(part)
            self._nodes[where] = part
        elif step.name == "download":
            self._nodes.get(where, self.root).inside.append(part)
        else:
            self.root.inside.append(part)
            if step.name == "nodes":
                self._all_nodes.append(part)
            elif step.name == "engine":
                self._engine = part

    def add_event(self, event: HookEvent) -> None:
        """Add a call of a hook: to its point, or, what follows a `yield`, beside the points."""
        point = HOOK_POINTS.get(event.point)
        around = self.root
        if event.process:
            around = self._of_engine(event.start_s)
        elif point is not None and point.on_node:
            around = self._nodes.get((event.node_id, event.process_id), self.root)
        part = _part_of_event(event)
        if event.is_finish:
            around.inside.append(part)
            return
        key = (event.process, event.node_id, event.process_id, event.point)
        if key not in self._points:
            self._points[key] = Part(event.point, part.start_s, part.end_s, _where(event))
            around.inside.append(self._points[key])
        calls = self._points[key]
        calls.inside.append(part)
        calls.start_s, calls.end_s = min(calls.start_s, part.start_s), max(calls.end_s, part.end_s)
        calls.failed |= part.failed and event.outcome != "warned"

    def _of_engine(self, start_s: float) -> Part:
        return self._engine if self._engine is not None and self._engine.start_s <= start_s else self.root


def parts_of(name: str, events: Iterable[HookEvent], steps: Sequence[StartStep], why: str = "") -> Part | None:
    """Return all of a start, or of a replica's end; ``None`` where nothing has happened.

    Args:
        name: what the whole is called.
        events: what hooks did. Those that did not run are left out.
        steps: the other steps; the one called ``start`` is the whole.
        why: the error in one line that ended the start.
    """
    told = [event for event in events if event.ran or event.outcome == "replayed"]
    every: list[HookEvent | StartStep] = [*told, *steps]
    if not every:
        return None
    whole = next((step for step in steps if step.name == "start"), None)
    first = min(every, key=lambda each: each.start_s) if whole is None else whole
    end_s = max(each.end_s for each in every) if whole is None else whole.end_s
    root = Part(name, first.start_s, end_s, _where(first), whole is not None and whole.failed, why)
    tree = _Tree(root, steps)
    for event in told:
        tree.add_event(event)
    _give_reasons(root, why)
    return root


def _give_reasons(part: Part, why: str) -> None:
    """Let what has failed say why: what has failed inside it, or what ended the start."""
    for each in part.inside:
        _give_reasons(each, why)
    if part.failed and not part.why:
        part.why = next((each.why for each in part.inside if each.failed and each.why), why)


def _part_of_event(event: HookEvent) -> Part:
    told: dict[str, str | int] = {"hook": event.hook, "point": event.point, "outcome": event.outcome}
    failed = event.outcome in _BAD
    if event.detail and not failed:
        told["detail"] = event.detail
    attributes = {**_where(event), **{f"{_OURS}{key}": value for key, value in told.items()}}
    name = f"{event.title} (finish)" if event.is_finish else event.title
    return Part(name, event.start_s, event.end_s, attributes, failed, event.detail if failed else "")


def _part_of_step(step: StartStep) -> Part:
    attributes = _where(step)
    if step.size_bytes is not None:
        attributes[f"{_OURS}size_bytes"] = step.size_bytes
    return Part(step.name, step.start_s, step.end_s, attributes, step.failed)


def _where(each: HookEvent | StartStep) -> dict[str, str | int]:
    """Return where it was, by the names that OpenTelemetry and Ray have for it."""
    known = {
        "ray.node_id": each.node_id,
        "host.ip": each.address,
        "host.name": each.hostname,
        f"{_OURS}process": each.process,
    }
    return {"process.pid": each.process_id, **{key: value for key, value in known.items() if value}}
