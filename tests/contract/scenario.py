"""Scenarios: written once, run on both wings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from serve_llm_hooks_testing.faults import Fault

    from .told import Told

__all__ = ["Model", "Scenario", "nothing_more"]

FOLDER = "/contract/model"
"""A model that is there already: nothing to download."""

BUCKET = "s3://models/m"
"""A model in a bucket, which both wings have."""

EXTRA_FILES = {
    "bucket_uri": None,
    "extra_files": [{"bucket_uri": "s3://models/extra", "destination_path": "$HF_HOME/extra"}],
}
"""No model in a bucket, and files that every node needs."""


@dataclass(frozen=True)
class Model:
    """A model to serve: the fields of ``LLMConfig`` and ``FakeLLMConfig`` alike.

    Attributes:
        hooks: as in ``hooks=[...]``.
        model_id: the model's id.
        source: its ``model_source``.
        engine_kwargs, runtime_env: as there.
        on_error: ``"warn"`` is ``raise_error_on_callback=False`` in Ray.
        fields: any other fields: ``callback``, ``callbacks``, …
    """

    hooks: Any
    model_id: str = "m"
    source: str | Mapping[str, Any] | None = FOLDER
    engine_kwargs: Mapping[str, Any] = field(default_factory=dict)
    runtime_env: Mapping[str, Any] | None = None
    on_error: Literal["raise", "warn"] = "raise"
    fields: Mapping[str, Any] = field(default_factory=dict)


def nothing_more(told: dict[str, Told]) -> None:
    """Where nothing is asserted but that the wings tell the same."""


@dataclass(frozen=True)
class Scenario:
    """One start of one replica, or of several at once.

    Attributes:
        name: what it is about.
        models: what is started, at once.
        holds: asserts about what each model's start told, by model id. That both wings tell the same is asserted of
            every scenario; this is what keeps them from being wrong alike.
        group: how many of the three nodes the default placement group spans.
        placement: the config's ``placement_group_config`` instead, for nodes of 4 CPUs and a ``slot-i`` of their own.
        own_bundles: the start is a data-parallel rank's, and these of the group's bundles are its own.
        environ: environment variables of every process, the nodes' included.
        faults: what goes wrong, as on a fake cluster. The real wing makes it happen.
        how: by which means a lost node is lost on the real wing: its worker process, or its raylet. A node that loses
            its raylet, or has it stopped, is a fresh one.
        times: how often it is run, one after another in one process; what the last run tells counts.
        disk: each run has a fresh disk, which its starts share: a folder in ``SERVE_LLM_HOOKS_NODE_DIR``.
        apart: it is about what processes do not share, so that a fake cluster in the test's process cannot run it.
        shut_down_s: the replica is stopped when it has started, or has failed to, and its hooks have so many seconds.
        engine_s: real seconds for which the real engine blocks the replica's loop while it starts, as vLLM's does.
        node_timeout_s, node_grace_s: as both clusters have it. The grace is long, since worker processes start slowly.
    """

    name: str
    models: Sequence[Model]
    holds: Callable[[dict[str, Told]], None] = nothing_more
    group: int = 3
    placement: Mapping[str, Any] | None = None
    own_bundles: Sequence[int] | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    faults: Sequence[Fault] = ()
    how: Literal["worker", "raylet"] = "worker"
    times: int = 1
    disk: bool = False
    apart: bool = False
    shut_down_s: float | None = None
    engine_s: float = 0.0
    node_timeout_s: float = 300.0
    node_grace_s: float = 60.0
