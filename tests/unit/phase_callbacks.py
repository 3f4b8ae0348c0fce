"""Phase callbacks that are given by path too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    Data = MutableMapping[str, Any]


async def phases(phase: str, config: Any, data: Data) -> dict[str, Any]:
    """List the phases."""
    return {"phases": [*data.get("phases", []), phase]}


class Counts:
    """Count its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, phase: str, config: Any, data: Data) -> dict[str, Any]:
        self.calls += 1
        return {"calls": self.calls}
