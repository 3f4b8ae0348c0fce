"""The pytest plugin: fixtures, and the traces of a failing test's runs in its report.

It is there as soon as the package is installed beside pytest. It imports nothing of the harness before a test does.
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
    """A fake cluster of three nodes: `fake_cluster.run(config)`."""
    from .cluster import FakeCluster

    return FakeCluster()


@pytest.fixture
def make_fake_cluster() -> type[FakeCluster]:
    """Make a fake cluster of your own: `make_fake_cluster(nodes=2, faults=[...])`."""
    from .cluster import FakeCluster

    return FakeCluster


@pytest.fixture
def hook_registry() -> Iterator[HookRegistry]:
    """An empty registry: `@hook_registry.hook("on_...")`, then `FakeLLMConfig("m", hooks=[hook_registry])`.

    What `@hook` itself registers during the test, in it or in modules that it imports, is gone after it, too.
    """
    from serve_llm_hooks import HookRegistry, registry

    before = list(registry)
    yield HookRegistry()
    registry.clear()
    for one in before:
        registry.add(one)


def _recent() -> deque[FakeRun]:
    """The last runs; none where no test has imported the harness."""
    module = sys.modules.get("serve_llm_hooks_testing.run")
    return deque() if module is None else module.recent


def pytest_runtest_setup() -> None:
    """A test begins: what ran before is not its own."""
    _recent().clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Beside a failing test, show what ran."""
    report = yield
    if report.failed:
        runs = _recent()
        for number, run in enumerate(runs, 1):
            report.sections.append((f"fake cluster: run {number} of the last {len(runs)}", str(run)))
    return report
