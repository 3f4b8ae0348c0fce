"""The settings of a fake cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from serve_llm_hooks._core.messages import describe

from .._monitor.monitor import TIME_LIMIT_S
from ..errors import HarnessError
from ..placement_group import FakePlacementGroup
from .accelerators import check_resources
from .arguments import check_count, check_flag, check_limit, check_names, check_real_limit, check_seconds
from .disks import new_disks
from .fault_kinds import check_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from .fault_kinds import Fault
    from .timing import Timing


class ClusterSettings:
    """The checked settings of a fake cluster; ``FakeCluster`` documents the arguments. A run does not change them.

    Attributes:
        node_names: the ids of the nodes, the replica's own first.
        node_resources: what each node has; ``None`` where that is not declared.
        default_group: the placement group that the replica is in, or acquires, unless the config says what it holds.
        left_out: the hooks (by ``ref``) that do not run; ``check_hooks`` finds with it what others hide.
        timing: when what happens, in a start of ``explore_hooks``.
        stops_replica: whether a replica in a process of its own is stopped there once it has started; its run's
            ``shut_down()`` only tells then what has failed.
        shares_environment: whether nodes and the replica change the same variables, as ``check_hooks`` wants it to
            find out who depends on that.
        disks: the folder of what hooks that run once per node keep, on all nodes.
        rollouts: how often the deployment was rolled out anew.
        spent: the faults that have happened, and happen once in all runs.
        places_bundles: whether the default group is placed by its bundles, wherever the config has none of its own.
    """

    def __init__(
        self,
        nodes: int | Sequence[Mapping[str, float]] = 3,
        *,
        group_nodes: int | None = None,
        in_group: bool = True,
        own_bundles: Sequence[int] | None = None,
        download_s: float = 20.0,
        engine_start_s: float = 30.0,
        engine_import_s: float = 0.0,
        placement_group_s: float = 0.0,
        node_timeout_s: float = 3600.0,
        node_grace_s: float = 10.0,
        faults: Sequence[Fault] = (),
        more_engine_args: Collection[str] = (),
        engine_check: Callable[..., dict[str, Any]] | None = None,
        real_sleep_limit_s: float = 1.0,
        time_limit_s: float = TIME_LIMIT_S,
        processes: bool | Literal["nodes"] = False,
        setup: Callable[[], object] | None = None,
        hang_s: float = 60.0,
    ) -> None:
        self.node_resources: dict[str, dict[str, float] | None] = _resources(nodes)
        self.node_names: tuple[str, ...] = tuple(self.node_resources)
        count = len(self.node_names)
        in_default_group = count if group_nodes is None else check_count("group_nodes", group_nodes)
        if in_default_group > count:
            raise HarnessError(f"group_nodes={group_nodes} does not fit on nodes={count}")
        self.places_bundles: bool = not isinstance(nodes, int)
        if self.places_bundles and group_nodes is not None:
            raise HarnessError("group_nodes= is for nodes=3; nodes with resources get the bundles that fit on them")
        self.default_group: FakePlacementGroup = FakePlacementGroup(self.node_names[:in_default_group])
        self.in_group: bool = check_flag("in_group", in_group)
        self.own_bundles: tuple[int, ...] | None = check_own_bundles(
            own_bundles, None if self.places_bundles else in_default_group
        )
        self.download_s: float = check_seconds("download_s", download_s)
        self.engine_start_s: float = check_seconds("engine_start_s", engine_start_s)
        self.engine_import_s: float = check_seconds("engine_import_s", engine_import_s)
        if self.engine_import_s > self.engine_start_s:
            raise HarnessError(
                f"engine_import_s={engine_import_s:g} is a part of engine_start_s={engine_start_s:g}, and is not longer"
            )
        self.placement_group_s: float = check_seconds("placement_group_s", placement_group_s)
        self.node_timeout_s: float = check_limit("node_timeout_s", node_timeout_s)
        self.node_grace_s: float = check_limit("node_grace_s", node_grace_s, zero=True)
        self.real_sleep_limit_s: float = check_real_limit("real_sleep_limit_s", real_sleep_limit_s)
        self.time_limit_s: float = check_limit("time_limit_s", time_limit_s)
        self.faults: tuple[Fault, ...] = check_faults(faults, self.node_names)
        if engine_check is not None and not callable(engine_check):
            raise HarnessError(
                "engine_check= is serve_llm_hooks.ray.check_engine_args, or a function like it, not "
                f"{describe(engine_check)}"
            )
        self.left_out: frozenset[str] = frozenset()
        self.disks: str = new_disks(self)
        self.rollouts: int = 0
        self.spent: tuple[Fault, ...] = ()
        self.timing: Timing | None = None
        self.stops_replica: bool = False
        self.shares_environment: bool = False
        self.engine_check: Callable[..., dict[str, Any]] | None = engine_check
        self.more_engine_args: frozenset[str] = check_names("more_engine_args", more_engine_args)
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


def _resources(nodes: object) -> dict[str, dict[str, float] | None]:
    """Return the nodes by their ids, with what each has.

    Raises:
        HarnessError: they are neither a number of nodes nor a list of what each has.
    """
    if not isinstance(nodes, list | tuple):
        return {f"node-{index}": None for index in range(check_count("nodes", nodes))}
    if not nodes:
        raise HarnessError("nodes=[] is no cluster: give a number of nodes, or what each has, as in [{'GPU': 8}]")
    try:
        return {f"node-{index}": check_resources(f"nodes[{index}]", node) for index, node in enumerate(nodes)}
    except ValueError as error:
        raise HarnessError(str(error)) from None


def check_own_bundles(value: object, bundles: int | None) -> tuple[int, ...] | None:
    """Return the replica's own bundles.

    Args:
        value: what was given.
        bundles: how many the group has; ``None`` if only the config tells.

    Raises:
        HarnessError: they are no list of different bundles of the group, or none.
    """
    if value is None:
        return None
    own = tuple(value) if isinstance(value, list | tuple | range) else ()
    last = float("inf") if bundles is None else bundles - 1
    if not own or len(set(own)) < len(own) or any(type(each) is not int or not 0 <= each <= last for each in own):
        which = "" if bundles is None else f" out of the group's 0 to {last}"
        raise HarnessError(
            f"own_bundles= is a list of one bundle or more, each once{which}, as in own_bundles=[0], not "
            f"{list(own) if own else describe(value)}"
        )
    return own
