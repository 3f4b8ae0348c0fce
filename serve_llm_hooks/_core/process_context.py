"""``EngineProcessCtx``: the context of hooks in a process of the engine, which few starts have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from .checked_fields import Checked, ClosedDict, checked_field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .points import Role


@dataclass(eq=False, repr=False)
class EngineProcessCtx(Checked):
    """The context of hooks in a process of the engine. All of it is read-only: nothing goes back to the replica.

    Attributes:
        model_id: the model's id, as clients name it.
        node_id: the id of the node that the process runs on.
        role: its part in the engine: ``"frontend"``, ``"config"``, ``"core"``, ``"worker"`` or ``"inspection"``.
        rank: a worker's number among all of the engine, from 0 on; ``None`` for other processes.
        custom_data: a copy of the replica's, as it was before the engine's start.

    Example:
        >>> EngineProcessCtx(model_id="m", role="worker", rank=1).process
        'worker-1'
    """

    model_id: Final[str] = checked_field("read-only", "")
    node_id: Final[str] = checked_field("read-only", "")
    role: Final[Role] = checked_field("read-only", "worker")
    rank: Final[int | None] = checked_field("read-only")
    custom_data: Final[Mapping[str, Any]] = checked_field("read-only", factory=dict)

    def __post_init__(self) -> None:
        """Refuse changes of ``custom_data``."""
        self.__dict__["custom_data"] = ClosedDict(
            dict(self.custom_data),
            f"ctx.custom_data cannot be changed in a process of the engine: it is a copy, and nothing of it goes back. "
            f"on_before_engine_init is the last point whose changes reach {self.process}",
        )

    @property
    def process(self) -> str:
        """The process, as traces and errors name it: ``"worker-1"``."""
        return process_name(self.role, self.rank)

    def __repr__(self) -> str:
        """Name the model and the process; ``custom_data`` may hold secrets."""
        return f"<EngineProcessCtx of model {self.model_id!r} in {self.process}>"


def process_name(role: str, rank: int | None) -> str:
    """Return the name of a process of an engine, which has a number where there are several of its role."""
    return f"{role}-{rank}" if role == "worker" else role
