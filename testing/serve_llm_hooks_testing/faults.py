"""What may go wrong on a fake cluster. A test declares it, and reads like what it tests:

>>> from serve_llm_hooks_testing import FakeCluster, failing_download, slow_download
>>> cluster = FakeCluster(nodes=3, faults=[failing_download("node-1"), slow_download("node-2", 300)])

Every fault says ``at=`` where it may strike at a hook point: the moment after that point's hooks have run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from serve_llm_hooks._core.points import HOOK_POINTS, hook_point
from serve_llm_hooks._core.text import did_you_mean

from .errors import HarnessError

if TYPE_CHECKING:
    from serve_llm_hooks import HookName

__all__ = [
    "Fault",
    "different_path",
    "engine_fails",
    "failing_download",
    "lost_node",
    "missing_module",
    "replica_dies",
    "slow_download",
    "unschedulable",
]


@dataclass(frozen=True)
class DownloadFault:
    """See :func:`failing_download`, :func:`slow_download`, :func:`different_path`."""

    node_id: str
    seconds: float | None = None
    error: str | None = None
    quietly: bool = False
    path: str | None = None


@dataclass(frozen=True)
class LostNodeFault:
    """See :func:`lost_node`."""

    node_id: str
    at: HookName | None
    noticed_after_s: float | None


@dataclass(frozen=True)
class MissingModuleFault:
    """See :func:`missing_module`."""

    node_id: str
    module: str


@dataclass(frozen=True)
class UnschedulableFault:
    """See :func:`unschedulable`."""

    after_s: float


@dataclass(frozen=True)
class EngineFailsFault:
    """See :func:`engine_fails`."""

    error: Exception
    after_s: float | None


@dataclass(frozen=True)
class ReplicaDiesFault:
    """See :func:`replica_dies`."""

    at: HookName
    times: int
    restart_s: float


Fault: TypeAlias = (
    DownloadFault | LostNodeFault | MissingModuleFault | UnschedulableFault | EngineFailsFault | ReplicaDiesFault
)
"""What the functions here give, and ``FakeCluster(faults=[...])`` takes."""


def failing_download(
    node_id: str,
    error: str = "An error occurred (403): Forbidden",
    *,
    after_s: float | None = None,
    quietly: bool = False,
) -> Fault:
    """The download on a node fails.

    Args:
        node_id: ``"node-0"`` is the replica's own.
        error: what the downloader says.
        after_s: when it fails; left out, at its end.
        quietly: nothing arrives and nothing is raised, as Ray's downloader does it.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[failing_download("node-1")]).run(FakeLLMConfig("m"), check=False)
        >>> list(run.error.node_ids)
        ['node-1']
    """
    return DownloadFault(node_id, None if after_s is None else check_seconds("after_s", after_s), error, quietly)


def slow_download(node_id: str, seconds: float) -> Fault:
    """The download on a node takes so long instead of the cluster's ``download_s``.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> FakeCluster(engine_start_s=0, faults=[slow_download("node-2", 300)]).run(FakeLLMConfig("m")).elapsed_s
        300.0
    """
    return DownloadFault(node_id, check_seconds("slow_download", seconds))


def different_path(node_id: str, path: str) -> Fault:
    """The download on a node goes to another path than elsewhere.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[different_path("node-2", "/scratch/m")]).run(FakeLLMConfig("m"))
        >>> run.nodes["node-2"].path
        '/scratch/m'
    """
    return DownloadFault(node_id, path=path)


def lost_node(node_id: str, at: HookName | None = None, *, noticed_after_s: float | None = 5.0) -> Fault:
    """A node goes away.

    Args:
        node_id: which one.
        at: a per-node point, when its hooks have run there; left out, before anything runs there.
        noticed_after_s: when Ray notices. ``None``: never, as with a stopped raylet; then the limit is
            ``FakeCluster(node_timeout_s=...)``.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[lost_node("node-2")]).run(FakeLLMConfig("m"), check=False)
        >>> run.error.exceptions[0].node_id
        'node-2'
    """
    if node_id == "node-0":
        raise HarnessError("the replica itself lives on node-0: replica_dies(at=...) is the fault for its end")
    if at is not None and not hook_point(at).on_node:
        points = ", ".join(name for name, point in HOOK_POINTS.items() if point.on_node)
        raise HarnessError(f"lost_node(at={at!r}): that point runs in the replica. On a node run {points}.")
    return LostNodeFault(
        node_id, at, None if noticed_after_s is None else check_seconds("noticed_after_s", noticed_after_s)
    )


def missing_module(node_id: str, module: str) -> Fault:
    """A module of hooks cannot be imported on a node.

    Example:
        >>> missing_module("node-2", "my_company.llm_hooks").module
        'my_company.llm_hooks'
    """
    if ":" in module:
        raise HarnessError(f"missing_module takes a module's name ('my_company.llm_hooks'), not {module!r}")
    return MissingModuleFault(node_id, module)


def unschedulable(after_s: float = 1800.0) -> Fault:
    """The default placement group is never scheduled; after so long the start gives up.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> FakeCluster(faults=[unschedulable()]).run(FakeLLMConfig("m"), check=False).elapsed_s
        1800.0
    """
    return UnschedulableFault(check_seconds("after_s", after_s))


def engine_fails(error: Exception | str = "CUDA out of memory", *, after_s: float | None = None) -> Fault:
    """The engine does not start.

    Args:
        error: what it raises; text stands for a ``RuntimeError``.
        after_s: when; left out, after the cluster's ``engine_start_s``.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> FakeCluster(faults=[engine_fails()]).run(FakeLLMConfig("m"), check=False).error
        RuntimeError('CUDA out of memory')
    """
    failure = RuntimeError(error) if isinstance(error, str) else error
    if not isinstance(failure, Exception):
        raise HarnessError(f"engine_fails takes an exception or its text, not {error!r}")
    return EngineFailsFault(failure, None if after_s is None else check_seconds("after_s", after_s))


def replica_dies(at: HookName, *, times: int = 1, restart_s: float = 0.0) -> Fault:
    """The replica's process dies once a point's hooks have run, and Serve starts it again from the beginning.

    Args:
        at: the point; one that runs in the replica.
        times: so many starts die.
        restart_s: how long Serve takes.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[replica_dies(at="on_before_engine_init")]).run(FakeLLMConfig("m"))
        >>> len(run.earlier_starts)
        1
    """
    if hook_point(at).on_node:
        raise HarnessError(f"replica_dies(at={at!r}): that point runs on nodes; lost_node() is the fault for them")
    return ReplicaDiesFault(at, check_count("times", times), check_seconds("restart_s", restart_s))


def check_faults(faults: object, node_ids: tuple[str, ...]) -> tuple[Fault, ...]:
    """See that faults are faults, on nodes that exist.

    Raises:
        HarnessError: they are not.
    """
    if not isinstance(faults, list | tuple):
        raise HarnessError(f"faults= is a list, as in faults=[failing_download('node-1')], not {faults!r}")
    for fault in faults:
        if not isinstance(fault, Fault):
            raise HarnessError(
                f"faults=[...] takes what failing_download(), lost_node() and their like give, not {fault!r}"
            )
        node_id = getattr(fault, "node_id", None)
        if node_id is not None and node_id not in node_ids:
            raise HarnessError(
                f"a fault is on {node_id!r}, which is no node of this cluster{did_you_mean(node_id, node_ids)}: "
                f"it has {node_ids[0]} to {node_ids[-1]}"
            )
    return tuple(faults)


def check_seconds(name: str, value: object) -> float:
    """A time that a test gives.

    Raises:
        HarnessError: it is negative, or no number.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise HarnessError(f"{name}= is a number of seconds, 0 or more, not {value!r}")
    return float(value)


def check_count(name: str, value: object) -> int:
    """A number that a test gives.

    Raises:
        HarnessError: it is no whole number, or none above zero.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise HarnessError(f"{name}= is a whole number, 1 or more, not {value!r}")
    return value
