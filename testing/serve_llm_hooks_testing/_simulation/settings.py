"""The settings of a fake cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from serve_llm_hooks._core.messages import describe

from ..errors import HarnessError
from ..faults import check_faults
from ..placement_group import FakePlacementGroup
from .arguments import check_count, check_limit, check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ..faults import Fault


class ClusterSettings:
    """The checked settings of a fake cluster; ``FakeCluster`` documents the arguments. A run does not change them.

    Attributes:
        node_names: the ids of the nodes, the replica's own first.
        default_group: the placement group that the replica is in, or acquires.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        group_nodes: int | None = None,
        in_group: bool = True,
        own_bundles: Sequence[int] | None = None,
        download_s: float = 20.0,
        engine_start_s: float = 30.0,
        placement_group_s: float = 0.0,
        node_timeout_s: float = 3600.0,
        node_grace_s: float = 10.0,
        faults: Sequence[Fault] = (),
        more_engine_args: Iterable[str] = (),
        real_sleep_limit_s: float = 1.0,
        processes: bool | Literal["nodes"] = False,
        setup: Callable[[], object] | None = None,
        hang_s: float = 60.0,
    ) -> None:
        self.node_names: tuple[str, ...] = tuple(f"node-{index}" for index in range(check_count("nodes", nodes)))
        in_default_group = nodes if group_nodes is None else check_count("group_nodes", group_nodes)
        if in_default_group > nodes:
            raise HarnessError(f"group_nodes={group_nodes} does not fit on nodes={nodes}")
        self.default_group: FakePlacementGroup = FakePlacementGroup(self.node_names[:in_default_group])
        self.in_group: bool = in_group
        self.own_bundles: tuple[int, ...] | None = None if own_bundles is None else tuple(own_bundles)
        if not set(self.own_bundles or ()) <= set(range(in_default_group)):
            raise HarnessError(f"own_bundles={own_bundles!r}: the group has bundles 0 to {in_default_group - 1}")
        self.download_s: float = check_seconds("download_s", download_s)
        self.engine_start_s: float = check_seconds("engine_start_s", engine_start_s)
        self.placement_group_s: float = check_seconds("placement_group_s", placement_group_s)
        self.node_timeout_s: float = check_limit("node_timeout_s", node_timeout_s)
        self.node_grace_s: float = check_limit("node_grace_s", node_grace_s, zero=True)
        self.real_sleep_limit_s: float = check_seconds("real_sleep_limit_s", real_sleep_limit_s)
        if not self.real_sleep_limit_s:
            raise HarnessError("real_sleep_limit_s=0 would report every hook: give a number of seconds above 0")
        self.faults: tuple[Fault, ...] = check_faults(faults, self.node_names)
        self.more_engine_args: frozenset[str] = frozenset(more_engine_args)
        self.processes: bool | Literal["nodes"] = _processes(processes)
        self.setup: Callable[[], object] | None = setup
        if setup is not None and not callable(setup):
            raise HarnessError(f"setup= is a function without parameters, not {describe(setup)}")
        if setup is not None and not self.processes:
            raise HarnessError(
                "setup= is called in the processes of processes=True or 'nodes', and there are none: in the test's own "
                "process, use monkeypatch"
            )
        self.hang_s: float = check_limit("hang_s", hang_s)


def _processes(value: object) -> bool | Literal["nodes"]:
    if isinstance(value, bool):
        return value
    if value == "nodes":
        return "nodes"
    raise HarnessError(f"processes= is False, True or 'nodes', not {describe(value)}")
