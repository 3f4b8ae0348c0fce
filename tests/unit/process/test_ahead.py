"""Check the modules that a start imports ahead: a wrong name would fail nowhere, and only make the start slower."""

from __future__ import annotations

import asyncio
import sys
from importlib.util import find_spec

import pytest

from serve_llm_hooks.ray import ahead


@pytest.mark.parametrize("name", [*ahead._FOR_START, *ahead._AFTER_NODES, *ahead._AFTER_ENGINE])
def test_each_module_is_there(name: str) -> None:
    assert find_spec(name) is not None


def test_a_module_that_cannot_be_imported_is_told_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ahead._AFTER_NODES:
        monkeypatch.setitem(sys.modules, name, None)  # as Python does to forbid an import
    problems: list[object] = []

    async def start() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, problem: problems.append(problem))
        ahead.do_while_nodes_work()
        await asyncio.sleep(0)

    asyncio.run(start())
    assert problems == []


def test_a_replica_imports_what_its_start_needs_once_it_has_said_that_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[object] = []
    monkeypatch.setattr(ahead, "_import", lambda *names: seen.append(names))

    async def be_made() -> None:
        ahead.do_while_serve_waits()
        asyncio.get_running_loop().call_soon(seen.append, "said that it is there")

    async def main() -> None:
        await be_made()
        while len(seen) < 2:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert seen == ["said that it is there", ahead._FOR_START]


def test_where_there_is_no_event_loop_nothing_is_imported() -> None:
    ahead.do_while_serve_waits()
