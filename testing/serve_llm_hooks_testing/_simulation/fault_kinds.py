"""Faults: a record for each kind, and the checks of a cluster's list of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from serve_llm_hooks._core.messages import describe, did_you_mean

from ..errors import HarnessError

if TYPE_CHECKING:
    from serve_llm_hooks import HookName


@dataclass(frozen=True)
class DownloadFault:
    """A :func:`failing_download`, a :func:`slow_download` or a :func:`different_path`.

    Attributes:
        error: what the download fails with; a text stands for a ``RuntimeError``, and ``None`` for no failure.
    """

    node_id: str
    seconds: float | None = None
    error: Exception | str | None = None
    quietly: bool = False
    path: str | None = None

    def __str__(self) -> str:
        """Return it as a test writes it, without what it fails with."""
        if self.error is not None:
            return f"failing_download({self.node_id!r})"
        return f"{'slow_download' if self.path is None else 'different_path'}({self.node_id!r})"


@dataclass(frozen=True)
class LostNodeFault:
    """A :func:`lost_node`."""

    node_id: str
    at: HookName | None
    noticed_after_s: float | None

    def __str__(self) -> str:
        """Return it as a test writes it."""
        return f"lost_node({self.node_id!r})" if self.at is None else f"lost_node({self.node_id!r}, at={self.at!r})"


@dataclass(frozen=True)
class NodeProcessDiesFault:
    """A process on a node that dies: :func:`node_process_dies`."""

    node_id: str
    hook: str
    noticed_after_s: float = 0.0

    def __str__(self) -> str:
        """Return it as a test writes it."""
        return f"node_process_dies({self.node_id!r}, in_hook={self.hook!r})"


@dataclass(frozen=True)
class MissingModuleFault:
    """A :func:`missing_module`."""

    node_id: str
    module: str

    def __str__(self) -> str:
        """Return it as a test writes it."""
        return f"missing_module({self.node_id!r}, {self.module!r})"


@dataclass(frozen=True)
class HookFailsFault:
    """A hook that fails: :func:`hook_fails`."""

    hook: str
    node_id: str | None
    error: Exception

    def __str__(self) -> str:
        """Return it as a test writes it, without what the hook fails with."""
        return (
            f"hook_fails({self.hook!r})"
            if self.node_id is None
            else f"hook_fails({self.hook!r}, node={self.node_id!r})"
        )


@dataclass(frozen=True)
class UnschedulableFault:
    """An :func:`unschedulable` placement group."""

    after_s: float

    def __str__(self) -> str:
        """Return it as a test writes it."""
        return "unschedulable()"


@dataclass(frozen=True)
class EngineFailsFault:
    """An engine that fails: :func:`engine_fails`."""

    error: Exception
    after_s: float | None

    def __str__(self) -> str:
        """Return it as a test writes it, without what the engine fails with."""
        return "engine_fails()"


@dataclass(frozen=True)
class EngineAnswersErrorFault:
    """An engine that starts and answers with errors: :func:`engine_answers_error`."""

    message: str
    code: int

    def __str__(self) -> str:
        """Return it as a test writes it, without what the engine answers."""
        return "engine_answers_error()"


@dataclass(frozen=True)
class ReplicaDiesFault:
    """A replica that dies: :func:`replica_dies`."""

    at: HookName
    times: int
    restart_s: float

    def __str__(self) -> str:
        """Return it as a test writes it."""
        return f"replica_dies(at={self.at!r})"


@dataclass(frozen=True)
class EngineProcessDiesFault:
    """A process of the engine that dies: :func:`engine_process_dies`."""

    process: str
    hook: str | None

    def __str__(self) -> str:
        """Return it as a test writes it."""
        in_hook = "" if self.hook is None else f", in_hook={self.hook!r}"
        return f"engine_process_dies({self.process!r}{in_hook})"


@dataclass(frozen=True)
class MissingPluginFault:
    """A process of the engine without our plugin: :func:`missing_plugin`."""

    process: str

    def __str__(self) -> str:
        """Return it as a test writes it."""
        return f"missing_plugin({self.process!r})"


Fault: TypeAlias = (
    DownloadFault
    | LostNodeFault
    | NodeProcessDiesFault
    | MissingModuleFault
    | HookFailsFault
    | UnschedulableFault
    | EngineFailsFault
    | EngineAnswersErrorFault
    | ReplicaDiesFault
    | EngineProcessDiesFault
    | MissingPluginFault
)
"""An element of ``FakeCluster(faults=[...])``; ``serve_llm_hooks_testing.faults`` has the functions that return one."""


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
    deaths = [fault.node_id for fault in faults if isinstance(fault, NodeProcessDiesFault)]
    if len(set(deaths)) < len(deaths):
        raise HarnessError("faults= has node_process_dies() twice for one node: its process dies once")
    return tuple(faults)
