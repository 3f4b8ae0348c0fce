"""Where the threads of a run are."""

from __future__ import annotations

import gc
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks_testing._virtual_time import locations

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("collects", [True, False])
def test_nothing_is_collected_while_frames_are_read(collects: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a thread when this is collected: CPython holds a lock that a new thread needs."""
    read: Callable[[], dict[int, Any]] = sys._current_frames
    seen: list[bool] = []

    def frames() -> dict[int, Any]:
        seen.append(gc.isenabled())
        return read()

    monkeypatch.setattr(sys, "_current_frames", frames)
    if not collects:
        gc.disable()
    try:
        assert threading.get_ident() in locations.current_frames()
        assert seen[0] is False
        assert gc.isenabled() is collects
    finally:
        gc.enable()
