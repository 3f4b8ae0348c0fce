"""``Schedule``: what happens around the hooks in one start, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from serve_llm_hooks._core.messages import describe, did_you_mean

from .._simulation.arguments import check_count, check_optional_seconds, check_seconds
from .._simulation.fault_kinds import check_faults
from .._simulation.settings import ClusterSettings
from .._simulation.timing import Timing
from ..errors import HarnessError
from ..faults import slow_download

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..faults import Fault

# Virtual seconds after which a start is taken for one that never ends: several times what a node may take.
_TIME_LIMIT_S = 14_400.0


@dataclass(frozen=True)
class Schedule:
    """The circumstances of one start: ``explore_hooks`` draws them from a seed, and prints the smallest that fail.

    Attributes:
        nodes: how many there are.
        faults: what fails, as in ``FakeCluster(faults=[...])``.
        begins_s: by node, the virtual seconds until its work begins; 0 where it is not named.
        download_s: by node, those that its download takes; 20 where it is not named.
        awaits_s: by node, those that everything takes besides which an async hook awaits, so that other nodes come in
            between; 0.001 where it is not named. The replica is on ``"node-0"``.
        cancelled_after_s: when the start is cancelled, as by a limit around it; ``None``: it is not.
        dies_after_s: when the replica's process is killed, wherever it is, and started again; ``None``: it is not.

    Raises:
        HarnessError: a number that is none, a node or a fault that does not exist.

    Example:
        >>> Schedule(nodes=2, download_s={"node-1": 60})
        Schedule(nodes=2, download_s={'node-1': 60.0})
    """

    nodes: int = 1
    faults: Sequence[Fault] = ()
    begins_s: Mapping[str, float] = field(default_factory=dict)
    download_s: Mapping[str, float] = field(default_factory=dict)
    awaits_s: Mapping[str, float] = field(default_factory=dict)
    cancelled_after_s: float | None = None
    dies_after_s: float | None = None

    def __post_init__(self) -> None:
        """Check it."""
        names = tuple(f"node-{index}" for index in range(check_count("nodes", self.nodes)))
        checked: dict[str, object] = {
            "faults": check_faults(self.faults, names),
            **{name: check_optional_seconds(name, getattr(self, name)) for name in MOMENTS},
            **{name: _times(name, getattr(self, name), names) for name in TIMES},
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def is_disturbed(self) -> bool:
        """``True`` if anything fails, or the start is cancelled."""
        return bool(self.faults) or any(getattr(self, name) is not None for name in MOMENTS)

    def given(self) -> dict[str, Any]:
        """Return the fields that say something, by their names."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if name == "nodes" or value not in (None, (), {})}

    def __repr__(self) -> str:
        """Return it without what it leaves as it is."""
        return f"Schedule({', '.join(f'{name}={value!r}' for name, value in self.given().items())})"

    def settings(self, real_sleep_limit_s: float) -> ClusterSettings:
        """Return the settings of a cluster on which just this happens."""
        slow = [slow_download(node_id, seconds) for node_id, seconds in self.download_s.items()]
        settings = ClusterSettings(
            self.nodes,
            faults=[*slow, *self.faults],
            real_sleep_limit_s=real_sleep_limit_s,
            time_limit_s=_TIME_LIMIT_S,
        )
        settings.timing = Timing(self.begins_s, self.awaits_s, self.cancelled_after_s, self.dies_after_s)
        return settings

    def without_faults(self) -> Schedule:
        """Return the start that comes after it: the times are the same, and nothing fails."""
        return Schedule(self.nodes, (), self.begins_s, self.download_s, self.awaits_s)


TIMES = ("begins_s", "download_s", "awaits_s")
"""The fields that hold a time for each node."""

MOMENTS = ("cancelled_after_s", "dies_after_s")
"""The fields that hold a moment."""


def _times(name: str, value: object, node_ids: tuple[str, ...]) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise HarnessError(
            f"{name}= has a number of seconds for each node, as in {{'node-1': 60}}, not {describe(value)}"
        )
    for node_id in value:
        if node_id not in node_ids:
            raise HarnessError(
                f"{name}= names {node_id!r}, which is no node of this schedule{did_you_mean(str(node_id), node_ids)}: "
                f"it has {node_ids[0]} to {node_ids[-1]}"
            )
    return {node_id: check_seconds(f"{name}[{node_id!r}]", seconds) for node_id, seconds in value.items()}
