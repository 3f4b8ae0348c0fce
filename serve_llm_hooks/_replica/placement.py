"""The placement group of a start: acquire the default one, notice a hook's own, give back what is not used."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from .._core.errors import PlacementGroupError
from .._core.messages import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._core.node import Node
    from .start import Start


logger: logging.Logger = logging.getLogger("serve_llm_hooks")


class Placement:
    """The placement group of one start."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._default: Any = start.defaults.placement_group
        self._is_acquired: bool = False

    async def ensure(self) -> None:
        """Acquire the default group, unless the replica is in one or a hook set its own.

        An acquired group that a hook has replaced is given back.

        Raises:
            PlacementGroupError: a hook replaced a group that other replicas share.
        """
        start = self._start
        shared, group = start.defaults.own_bundles, start.ctx.placement_group
        if shared is not None and group is not None and not is_same_group(group, self._default):
            raise PlacementGroupError(
                f"model {start.model_id!r}: a hook replaced ctx.placement_group, but this replica's place is in "
                f"bundles {', '.join(map(str, shared))} of the group that it is in, as a data-parallel rank's is. "
                "Size and place that group in the config (placement_group_config)."
            )
        if group is None:  # also where a hook wrote that: it means the default
            if self._default is None:
                with start.trace.step("placement group"), start.progress.waiting_for("its placement group"):
                    self._default = await start.cluster.acquire_placement_group(start.llm_config)
                self._is_acquired = True
            start.ctx.placement_group = self._default
        elif self._is_acquired and not is_same_group(group, self._default):
            await self.give_back()  # the group that has replaced it may be waiting for its resources

    async def wait_for_default(self) -> None:
        """Wait until the default group is scheduled, where no node is touched: the engine would wait in silence.

        A group that a hook made is the hook's business.
        """
        if is_same_group(self._start.ctx.placement_group, self._default):
            await self.node_ids()

    async def node_ids(self) -> Sequence[str]:
        """Return the nodes of the current group, once it is scheduled."""
        start = self._start
        what = "its placement group to be scheduled"
        with start.trace.step("placement group"), start.progress.waiting_for(what):
            return await start.cluster.node_ids(start.ctx.placement_group, start.defaults.own_bundles)

    async def give_back(self) -> None:
        """Give back the group that was acquired, if any. A failure is logged only: it must not replace the error."""
        if not self._is_acquired:
            return
        group, self._default, self._is_acquired = self._default, None, False
        try:
            await self._start.cluster.remove_placement_group(group)
        except Exception as error:
            logger.warning("model %r: its placement group may be left: %s", self._start.model_id, one_line(error))


def is_same_group(one: Any, other: Any) -> bool:
    """Return True for handles of one group: Ray returns another handle each time."""
    return one is other or (hasattr(one, "id") and one == other)


def replaced_too_late(model_id: str) -> PlacementGroupError:
    """Return the error for a group that a hook replaced when its nodes could not be initialized any more."""
    return PlacementGroupError(
        f"model {model_id!r}: ctx.placement_group was replaced at on_before_engine_init, too late for "
        "its nodes to be initialized; replace it at on_after_placement_group or before"
    )


def moved(model_id: str, nodes: Sequence[Node]) -> PlacementGroupError:
    """Return the error for a group that is on other nodes once the engine is up: Ray moves bundles of lost nodes."""
    return PlacementGroupError(
        f"model {model_id!r}: its placement group is on {', '.join(map(str, nodes))} since its nodes were initialized, "
        "so nothing has prepared the model there. Ray moves bundles when their node is lost; was one? "
        "Serve's next try of the replica initializes the nodes as they are then."
    )
