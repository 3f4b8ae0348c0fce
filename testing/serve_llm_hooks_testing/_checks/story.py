"""Describe the outcome of a run in a form that can be compared with another run's."""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from serve_llm_hooks._core.messages import one_line

from .._processes.packing import NotSent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ..run import FakeRun

Key: TypeAlias = tuple[str, ...]
"""A thing to compare: its kind (``"end"``, ``"hook"``, ``"data"``, ``"line"``, ``"effect"``), and which one."""

Story: TypeAlias = "dict[Key, set[str]]"
"""The texts that were seen of each, in whichever process."""

_FIELDS = ("model_path", "local_node_download_model", "worker_node_download_model", "extra_init_kwargs", "runtime_env")
_DEPTH = 4
# Addresses, ids, times and sizes: they are one process's, and may be the same in two that were forked alike.
_OWN = re.compile(r"0x[0-9a-f]{6,}|\d{9,}")


def story_of(run: FakeRun, noted: Iterable[list[str]], folder: str) -> Story:
    """Return the story of a run.

    Args:
        run: the run.
        noted: what its processes have written down.
        folder: where its nodes had their folders.
    """
    story: Story = {}
    own = re.compile(rf"{re.escape(folder)}/node-\d+")

    def add(key: Key, text: str) -> None:
        story.setdefault(key, set()).add(_OWN.sub("…", own.sub("~", text)))

    error = run.error
    add(("end",), "ok" if error is None else f"failed\n{one_line(error)}")
    for event in run.trace:
        add(("hook", event.point, event.hook), f"{event.outcome}\n{event.detail}")
    held = [run.ctx.custom_data] if run.ctx is not None else []
    held += [node.result.custom_data for node in run.nodes.values() if node.result is not None]
    for custom_data in held:
        for name, text in _leaves("custom_data", custom_data):
            add(("data", name), text)
    for field in _FIELDS if run.ctx is not None else ():
        for name, text in _leaves(f"ctx.{field}", getattr(run.ctx, field)):
            add(("data", name), text)
    if run.engine is not None:
        for name, text in _leaves("the engine's arguments", run.engine.kwargs):
            add(("data", name), text)
    for kind, *which in noted:
        if kind in ("line", "effect"):
            add((kind, *which[:-1]), which[-1])
    return story


def _leaves(name: str, value: Any, depth: int = _DEPTH) -> Iterator[tuple[str, str]]:
    """Yield the values in dicts of dicts, by the names with which code reaches them."""
    if isinstance(value, dict) and value and depth and all(isinstance(key, str) for key in value):
        for key, held in value.items():
            yield from _leaves(f"{name}[{key!r}]", held, depth - 1)
    elif not isinstance(value, NotSent):
        yield name, _written(value, _DEPTH)


def _written(value: Any, depth: int) -> str:
    """Return a value as text. Of other people's objects, only what they are."""
    if value is None or (isinstance(value, str | int | float | bytes) and not isinstance(value, Enum)):
        return str(value)
    if isinstance(value, Enum):
        return value.name
    if depth and isinstance(value, list | tuple):
        return f"[{', '.join(_written(each, depth - 1) for each in value)}]"
    if depth and isinstance(value, set | frozenset):
        return f"[{', '.join(sorted(_written(each, depth - 1) for each in value))}]"
    if depth and isinstance(value, dict):
        pairs = (f"{_written(key, depth - 1)}: {_written(held, depth - 1)}" for key, held in value.items())
        return f"{{{', '.join(pairs)}}}"
    return f"<{type(value).__name__}>"


def begun_in(run: FakeRun) -> set[float]:
    """Return the virtual times at which the processes of a run began to run hooks."""
    begun: dict[int, float] = {}
    for event in run.trace:
        begun[event.process_id] = min(event.start_s, begun.get(event.process_id, event.start_s))
    return set(begun.values())


def what_varies(story: Mapping[Key, set[str]], other: Mapping[Key, set[str]]) -> set[Key]:
    """Return what is not the same in two runs of one kind: that says nothing about kinds."""
    return {key for key in {*story, *other} if story.get(key) != other.get(key)}
