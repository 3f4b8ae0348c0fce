"""``CallbackRunner``: phase functions without a start."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import (
    CallbackRunner,
)
from serve_llm_hooks._sources.phase_data import PhaseData
from serve_llm_hooks._sources.phase_style import hooks_of_phase_callbacks
from tests.unit.phase_callbacks import Counts, phases

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path

    WriteModule = Callable[[str, str], Path]
    Data = MutableMapping[str, Any]

HERE, THERE = __name__, Counts.__module__


def test_the_runner() -> None:
    def at_b(phase: str, config: Any, data: Data) -> Any:
        return {"extra_init_kwargs": {"y": 2}} if phase == "b" else None

    runner = CallbackRunner([phases, Counts, f"{THERE}:Counts", at_b])
    runner.set("extra_init_kwargs", {"x": 1})

    async def main() -> None:
        assert (await runner.run("a", config=None))["phases"] == ["a"]
        assert await runner.run("b", config=None) is runner.data

    asyncio.run(main())
    assert runner.data == {"phases": ["a", "b"], "calls": 2, "extra_init_kwargs": {"x": 1, "y": 2}}
    assert runner.get("calls") == 2
    assert runner.get("nothing") is None
    assert runner.get("nothing", 3) == 3
    assert asyncio.run(CallbackRunner().run("a", None)) == {}


def test_the_runner_replaces_what_cannot_be_merged() -> None:
    runner = CallbackRunner([lambda phase, config, data: {"extra_init_kwargs": {"x": 1}}])
    runner.set("extra_init_kwargs", None)
    assert asyncio.run(runner.run("a", None)) == {"extra_init_kwargs": {"x": 1}}


def fails(phase: str, config: Any, data: Data) -> None:
    raise OSError("no")


async def fails_later(phase: str, config: Any, data: Data) -> None:
    raise OSError("no")


def returns_a_list(phase: str, config: Any, data: Data) -> Any:
    return [1]


@pytest.mark.parametrize(
    ("callback", "says"),
    [
        (fails, "no"),
        (fails_later, "no"),
        (returns_a_list, "it returned a list; a phase callback returns a dict to merge into data, or None"),
    ],
)
def test_the_runner_names_callback_and_phase(callback: Any, says: str) -> None:
    with pytest.raises(RuntimeError) as caught:
        asyncio.run(CallbackRunner([callback]).run("warm_up", None))
    assert str(caught.value) == f"callback {HERE}:{callback.__name__} failed at phase 'warm_up': {says}"
    assert caught.value.__cause__ is not None


def test_data_can_be_made_for_a_test() -> None:
    from serve_llm_hooks import CallbackCtx

    data = PhaseData(CallbackCtx(llm_config=None), "pre_initialization")
    assert data["placement_group"] is None


def test_the_runner_runs_each_entry_and_a_config_each_callback_once() -> None:
    calls: list[str] = []

    def f(phase: str, config: Any, data: Data) -> None:
        calls.append(phase)

    runner = CallbackRunner([f, f, Counts, f, Counts])
    asyncio.run(runner.run("a", None))
    assert calls == ["a", "a", "a"]
    assert runner.data == {"calls": 1}  # each entry has an object of its own
    assert len(hooks_of_phase_callbacks([f, f])) == len(hooks_of_phase_callbacks([f]))
