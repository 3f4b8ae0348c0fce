"""Faults of a fake cluster, which a test declares.

>>> from serve_llm_hooks_testing import FakeCluster, failing_download, slow_download
>>> cluster = FakeCluster(nodes=3, faults=[failing_download("node-1"), slow_download("node-2", 300)])

A fault that happens at a hook point (``at=``) happens right after that point's hooks have run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from serve_llm_hooks._core.errors import is_a
from serve_llm_hooks._core.messages import describe, did_you_mean
from serve_llm_hooks._core.points import HOOK_POINTS, hook_point

from ._simulation.arguments import check_count, check_seconds
from .errors import HarnessError

if TYPE_CHECKING:
    from serve_llm_hooks import HookName


@dataclass(frozen=True)
class DownloadFault:
    """A :func:`failing_download`, a :func:`slow_download` or a :func:`different_path`."""

    node_id: str
    seconds: float | None = None
    error: str | None = None
    quietly: bool = False
    path: str | None = None


@dataclass(frozen=True)
class LostNodeFault:
    """A :func:`lost_node`."""

    node_id: str
    at: HookName | None
    noticed_after_s: float | None


@dataclass(frozen=True)
class MissingModuleFault:
    """A :func:`missing_module`."""

    node_id: str
    module: str


@dataclass(frozen=True)
class UnschedulableFault:
    """An :func:`unschedulable` placement group."""

    after_s: float


@dataclass(frozen=True)
class EngineFailsFault:
    """An engine that fails: :func:`engine_fails`."""

    error: Exception
    after_s: float | None


@dataclass(frozen=True)
class ReplicaDiesFault:
    """A replica that dies: :func:`replica_dies`."""

    at: HookName
    times: int
    restart_s: float


Fault: TypeAlias = (
    DownloadFault | LostNodeFault | MissingModuleFault | UnschedulableFault | EngineFailsFault | ReplicaDiesFault
)
"""An element of ``FakeCluster(faults=[...])``; the functions of this module return one."""


def failing_download(
    node_id: str,
    error: str = "An error occurred (403): Forbidden",
    *,
    after_s: float | None = None,
    quietly: bool = False,
) -> Fault:
    """Make the download on a node fail.

    Args:
        node_id: the node; ``"node-0"`` is the replica's own.
        error: the downloader's message.
        after_s: seconds after which it fails. Default: when the download would have ended.
        quietly: nothing is downloaded and nothing is raised, as by Ray's downloader.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[failing_download("node-1")]).run(FakeLLMConfig("m"), check=False)
        >>> list(run.error.node_ids)
        ['node-1']
    """
    return DownloadFault(node_id, _optional_seconds("after_s", after_s), error, quietly)


def slow_download(node_id: str, seconds: float) -> Fault:
    """Make the download on a node take this long instead of the cluster's ``download_s``.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> FakeCluster(engine_start_s=0, faults=[slow_download("node-2", 300)]).run(FakeLLMConfig("m")).elapsed_s
        300.0
    """
    return DownloadFault(node_id, check_seconds("slow_download", seconds))


def different_path(node_id: str, path: str) -> Fault:
    """Make the download on a node go to another path than elsewhere.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> run = FakeCluster(faults=[different_path("node-2", "/scratch/m")]).run(FakeLLMConfig("m"))
        >>> run.nodes["node-2"].path
        '/scratch/m'
    """
    return DownloadFault(node_id, path=path)


def lost_node(node_id: str, at: HookName | None = None, *, noticed_after_s: float | None = 5.0) -> Fault:
    """Make a node disappear.

    Args:
        node_id: the node.
        at: the per-node hook point after which it disappears. Default: before anything runs there.
        noticed_after_s: seconds until Ray notices. ``None``: it never does, as with a stopped raylet; then
            ``FakeCluster(node_timeout_s=...)`` is the limit.

    Raises:
        HarnessError: the node is the replica's own, or the point runs in the replica.

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
    return LostNodeFault(node_id, at, _optional_seconds("noticed_after_s", noticed_after_s))


def missing_module(node_id: str, module: str) -> Fault:
    """Make a module of hooks unavailable on a node.

    Raises:
        HarnessError: it is not a module's name.

    Example:
        >>> missing_module("node-2", "my_company.llm_hooks").module
        'my_company.llm_hooks'
    """
    if ":" in module:
        raise HarnessError(f"missing_module takes a module's name ('my_company.llm_hooks'), not {describe(module)}")
    return MissingModuleFault(node_id, module)


def unschedulable(after_s: float = 1800.0) -> Fault:
    """Make the default placement group unschedulable.

    Args:
        after_s: seconds after which the start gives up.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> FakeCluster(faults=[unschedulable()]).run(FakeLLMConfig("m"), check=False).elapsed_s
        1800.0
    """
    return UnschedulableFault(check_seconds("after_s", after_s))


def engine_fails(error: Exception | str = "CUDA out of memory", *, after_s: float | None = None) -> Fault:
    """Make the start of the engine fail.

    Args:
        error: the exception that it raises; a text stands for a ``RuntimeError``.
        after_s: seconds after which it fails. Default: the cluster's ``engine_start_s``.

    Raises:
        HarnessError: ``error`` is neither an exception nor a text.

    Example:
        >>> from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
        >>> FakeCluster(faults=[engine_fails()]).run(FakeLLMConfig("m"), check=False).error
        RuntimeError('CUDA out of memory')
    """
    failure: object = RuntimeError(error) if is_a(error, str) else error
    if not is_a(failure, Exception):
        raise HarnessError(f"engine_fails takes an exception or its text, not {describe(error)}")
    return EngineFailsFault(failure, _optional_seconds("after_s", after_s))


def replica_dies(at: HookName, *, times: int = 1, restart_s: float = 0.0) -> Fault:
    """Kill the replica's process after a hook point, so that Serve starts it again from the beginning.

    Args:
        at: the hook point; one that runs in the replica.
        times: how many starts die.
        restart_s: seconds that Serve takes to start it again.

    Raises:
        HarnessError: the point runs on nodes.

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
    """Return faults as a tuple.

    Raises:
        HarnessError: they are not a list of faults, or one is on a node that does not exist.
    """
    if not isinstance(faults, list | tuple):
        raise HarnessError(f"faults= is a list, as in faults=[failing_download('node-1')], not {describe(faults)}")
    for fault in faults:
        if not isinstance(fault, Fault):
            raise HarnessError(
                f"faults=[...] takes what failing_download(), lost_node() and their like give, not {describe(fault)}"
            )
        node_id = getattr(fault, "node_id", None)
        if node_id is not None and node_id not in node_ids:
            raise HarnessError(
                f"a fault is on {node_id!r}, which is no node of this cluster{did_you_mean(node_id, node_ids)}: "
                f"it has {node_ids[0]} to {node_ids[-1]}"
            )
    return tuple(faults)


def _optional_seconds(name: str, value: float | None) -> float | None:
    return None if value is None else check_seconds(name, value)
