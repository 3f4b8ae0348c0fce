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
    """Python's own settings of the collector, whatever another test in this process has made of them."""
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    yield gc.get_threshold()
    gc.enable()
    gc.set_threshold(*before)
    gc.unfreeze()


def test_the_collector_runs_seldom_and_then_as_before(collector: tuple[int, int, int]) -> None:
    with quick_imports.quick_imports():
        assert gc.isenabled()
        assert gc.get_threshold() > collector
    assert gc.get_threshold() == collector
    assert gc.get_freeze_count() > 0


def test_one_that_runs_more_seldom_already_does_so_still() -> None:
    gc.set_threshold(200_000, 30, 30)
    with quick_imports.quick_imports():
        assert gc.get_threshold() == (200_000, 50, 1000)
    assert gc.get_threshold() == (200_000, 30, 30)


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
