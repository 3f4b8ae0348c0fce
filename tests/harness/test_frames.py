"""The author's own frames of a start that fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import hook
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig, failing_download
from serve_llm_hooks_testing.frames import frames_of

if TYPE_CHECKING:
    from collections.abc import Callable


def frames(*hooks: Any) -> list[str]:
    """Return the names of the functions whose frames are shown."""
    run = FakeCluster(nodes=3).run(FakeLLMConfig("m", hooks=list(hooks)), check=False)
    assert run.error is not None
    return [line.rpartition(", in ")[2] for line in frames_of(run.error).splitlines() if line.startswith("  File ")]


@pytest.mark.parametrize("decorated", [hook("on_before_init"), hook("on_before_node_download")])
def test_a_task_in_a_group_that_fails_and_what_caused_it(decorated: Callable[[Any], Any]) -> None:
    async def fail() -> None:
        try:
            int("no number")
        except ValueError as error:
            raise RuntimeError("no size") from error

    async def start(ctx: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    assert frames(decorated(start)) == ["start", "fail", "fail"]


def test_nodes_that_fail_in_different_ways_show_each_way_once() -> None:
    def fail() -> None:
        raise RuntimeError("on the first")

    @hook("on_before_node_download")
    def start(ctx: Any) -> None:
        if ctx.is_local:
            fail()
        raise RuntimeError("elsewhere")

    assert frames(start) == ["start", "fail", "start"]


def test_a_start_that_fails_without_a_hook_has_none() -> None:
    run = FakeCluster(faults=[failing_download("node-0")]).run(FakeLLMConfig("m", hooks=[]), check=False)
    assert run.error is not None
    assert frames_of(run.error) == ""
