"""Check that what a replica has begun early ends where no start comes, and is left to one that has begun."""

from __future__ import annotations

import asyncio
import gc
import threading
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks.ray import early_core, prewarm, quick_imports, unused

if TYPE_CHECKING:
    from collections.abc import Iterator

WAITED_S = 30


@pytest.fixture
def thrown_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the list of what is thrown away, with why, in a replica whose imports have begun."""
    before = gc.get_threshold()
    thrown: list[str] = []
    for what in (prewarm, early_core):
        monkeypatch.setattr(what, "throw_away", thrown.append)
    monkeypatch.setattr(unused, "_has_begun", False)
    monkeypatch.setattr(unused, "UNUSED_S", 0.0)
    quick_imports.begin()
    yield thrown
    quick_imports.end()
    gc.set_threshold(*before)
    gc.unfreeze()


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "serve-llm-hooks unused"]


def wait_for_the_end() -> None:
    for thread in threads():
        assert thread.daemon
        thread.join(WAITED_S)


async def replica(*, starts: bool = False) -> None:
    """Import a server, and start it or not, until the time of what is unused is over."""
    loop = asyncio.get_running_loop()
    unused.end_later()
    assert not threads()  # whoever starts one waits until it runs
    if starts:
        unused.start_begins()
    over = loop.create_future()
    loop.call_later(0, over.set_result, None)  # behind the call that ends it
    await over


def test_it_is_ended(thrown_away: list[str]) -> None:
    rests = gc.get_threshold()
    asyncio.run(replica())
    wait_for_the_end()
    assert thrown_away == ["no start has asked for it"] * 2
    assert gc.get_threshold() < rests


def test_it_is_ended_where_there_is_no_event_loop(thrown_away: list[str]) -> None:
    unused.end_later()
    wait_for_the_end()
    assert thrown_away == ["no start has asked for it"] * 2


def test_a_start_that_has_begun_is_left_what_it_needs_however_long_it_takes(thrown_away: list[str]) -> None:
    rests = gc.get_threshold()
    asyncio.run(replica(starts=True))
    wait_for_the_end()
    assert not thrown_away
    assert gc.get_threshold() < rests
