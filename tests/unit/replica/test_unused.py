"""What a replica has begun for a start that never comes."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks.ray import early_core, prewarm, quick_imports, unused

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def thrown_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the list of what is thrown away, with why; the collector rests already, for a start that never comes."""
    before = gc.get_threshold()
    thrown: list[str] = []
    for what in (prewarm, early_core):
        monkeypatch.setattr(what, "throw_away", thrown.append)
    quick_imports.begin()
    yield thrown
    quick_imports.end()
    gc.set_threshold(*before)
    gc.unfreeze()


def test_it_is_ended_in_the_event_loop(thrown_away: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused, "UNUSED_S", 0.0)
    threads = threading.active_count()
    rests = gc.get_threshold()

    async def replica() -> None:
        unused.end_later()
        assert threading.active_count() == threads
        assert not thrown_away
        while len(thrown_away) < 2:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(replica(), 30))
    assert thrown_away == ["no start has asked for it"] * 2
    assert gc.get_threshold() < rests


def test_it_is_ended_where_there_is_no_event_loop(thrown_away: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unused, "UNUSED_S", 0.0)
    before = set(threading.enumerate())
    unused.end_later()
    for thread in set(threading.enumerate()) - before:
        assert thread.daemon
        thread.join(30)
    assert thrown_away == ["no start has asked for it"] * 2
