"""A timer of the event loop that knows its place among those that are due at the same time."""

from __future__ import annotations

import asyncio
from typing import Any

from .._apart.state import is_of_the_dead


class Timer(asyncio.TimerHandle):
    """A timer. asyncio keeps its timers in a heap, which does not keep the order of those that are due together.

    Attributes:
        order: its place: first made, first called.
    """

    __slots__ = ("order",)

    def __init__(self, order: int, when_s: float, *args: Any) -> None:
        super().__init__(when_s, *args)
        self.order: int = order
        self._scheduled = True

    def _run(self) -> None:
        if not is_of_the_dead(self._context):  # type: ignore[attr-defined]  # asyncio's own
            super()._run()

    def __lt__(self, other: Any) -> bool:
        return (self.when(), self.order) < (other.when(), other.order)
