"""Python's garbage collector while much is imported."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks.ray import quick_imports

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def collector() -> Iterator[tuple[int, int, int]]:
    """The collector as it was, and is again after the test."""
    before = gc.get_threshold()
    yield before
    gc.enable()
    gc.set_threshold(*before)
    gc.unfreeze()


def test_the_collector_runs_seldom_and_then_as_before(collector: tuple[int, int, int]) -> None:
    with quick_imports.quick_imports():
        assert gc.isenabled()
        assert gc.get_threshold() > collector
    assert gc.get_threshold() == collector
    assert gc.get_freeze_count() > 0


def test_it_runs_as_before_after_an_import_that_fails(collector: tuple[int, int, int]) -> None:
    with pytest.raises(ImportError), quick_imports.quick_imports():
        raise ImportError("no module named vllm")
    assert gc.get_threshold() == collector


def test_one_that_is_off_stays_off(collector: tuple[int, int, int]) -> None:
    gc.disable()
    with quick_imports.quick_imports():
        assert gc.get_threshold() == collector
    assert not gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_what_an_import_has_set_stays() -> None:
    with quick_imports.quick_imports():
        gc.set_threshold(5_000, 20, 20)
    assert gc.get_threshold() == (5_000, 20, 20)
