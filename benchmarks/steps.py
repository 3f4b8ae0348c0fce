"""The steps of a timed cold start: what ends at which moment, and whose it is."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """A step: what happens until a moment."""

    until: str
    what: str
    whose: str


STEPS = (
    Step("built", "the config and the app are made, in the driver", "Ray's, and ours around it"),
    Step("replica: process", "Serve takes the app and starts a process for the replica", "Ray's"),
    Step("replica: imports", "that process starts and connects", "Ray's"),
    Step("replica: our imports", "it imports Ray Serve LLM", "Ray's"),
    Step("replica: imported", "it imports this library", "ours"),
    Step("replica: start", "it unpickles the config, and imports the engine's class (vLLM, torch)", "vLLM's, for Ray"),
    Step("node: asked", "the first hooks, the placement group, packing the node's task", "ours, and the hooks'"),
    Step("node: process", "Ray starts a process for the node's task", "Ray's"),
    Step("node: begins", "that process starts and connects", "Ray's"),
    Step("node: imported", "it imports this library", "ours"),
    Step("node: done", "the node's hooks run", "ours, and the hooks'"),
    Step("node: answered", "the answer comes back", "Ray's"),
    Step("engine: begins", "the last hooks before the engine, its arguments", "ours, and the hooks'"),
    Step("engine: ends", "the engine starts", "vLLM's"),
    Step("replica: started", "the hooks after it", "ours, and the hooks'"),
    Step("ready", "Serve finds the replica healthy", "Ray's"),
    Step("first token", "the first request", "Ray's and vLLM's"),
)


def durations(moments: dict[str, float], begun_s: float) -> dict[str, float]:
    """Return how long each step took. One that ended before the step ahead of it was over took no time of its own."""
    took = {}
    for step in STEPS:
        if step.until in moments:
            took[step.until] = max(moments[step.until] - begun_s, 0.0)
            begun_s = max(moments[step.until], begun_s)
    return took
