"""Pytest plugin: fixtures, and a section with the traces of the runs in the report of a failing test.

It is active wherever the package is installed, so it imports nothing of the harness before a test does.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from serve_llm_hooks import HookRegistry

    from .cluster import FakeCluster
    from .run import FakeRun


@pytest.fixture
def fake_cluster() -> FakeCluster:
    """Return a fake cluster of three nodes: `fake_cluster.run(config)`."""
    from .cluster import FakeCluster

    return FakeCluster()


@pytest.fixture
def make_fake_cluster() -> type[FakeCluster]:
    """Return the class, to make a fake cluster with: `make_fake_cluster(nodes=2, faults=[...])`."""
    from .cluster import FakeCluster

    return FakeCluster


@pytest.fixture
def hook_registry() -> Iterator[HookRegistry]:
    """Yield an empty registry: `@hook_registry.hook("on_...")`, then `FakeLLMConfig("m", hooks=[hook_registry])`.

    Hooks that `@hook` registers during the test, in it or in modules that it imports, are removed after it.
    """
    from serve_llm_hooks import HookRegistry, registry

    before = list(registry)
    yield HookRegistry()
    registry.clear()
    for one in before:
        registry.add(one)


def _recent() -> deque[FakeRun]:
    """Return the last runs; none if no test has imported the harness."""
    module = sys.modules.get(f"{__package__}.run")
    return deque() if module is None else module.recent


def pytest_runtest_setup() -> None:
    """Forget the runs of earlier tests."""
    _recent().clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the runs of a failing test to its report."""
    report = yield
    if report.failed:
        runs = _recent()
        for number, run in enumerate(runs, 1):
            report.sections.append((f"fake cluster: run {number} of the last {len(runs)}", str(run)))
    return report
