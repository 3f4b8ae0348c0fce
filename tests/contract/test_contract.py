"""Every scenario on both wings: they must tell the same, and what a scenario says must hold.

``recorded.json`` is what the real wing told. With it the fake one is held to the truth in seconds and without Ray;
that it is not stale is tested wherever there is a Ray. ``pytest tests/contract --record`` writes it.
"""

from __future__ import annotations

import doctest
import sys
from typing import TYPE_CHECKING, Any, get_args

import pytest

from scripts import engine_args
from serve_llm_hooks._core.points import HOOK_NAMES
from serve_llm_hooks_testing.faults import Fault
from tests.conftest import require_engine

from . import recorded as recorded_file
from .real_wing import RealWing, real_config
from .recorded import RECORDED, in_lines, read_recorded
from .scenarios import SCENARIOS
from .told import differences
from .wings import run_fake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .recorded import Recorded
    from .scenario import Scenario

EVERY = [pytest.param(scenario, id=name) for name, scenario in SCENARIOS.items()]
IN_ONE_PROCESS = [pytest.param(scenario, id=name) for name, scenario in SCENARIOS.items() if not scenario.apart]
# The process of a replica ends with its start, so there is none that could be shut down. And it has the config's
# variables, as under Serve, so in the scenario that is left out it refuses what here only a node refuses.
IN_PROCESSES = [
    pytest.param(scenario, id=name)
    for name, scenario in SCENARIOS.items()
    if scenario.shut_down_s is None and name != "a_node_refuses_what_its_environment_does_not_allow"
]


# What cannot be pickled stays in the process of the replica, which has ended. The test is given a placeholder.
NOT_SENT = {
    "what_cannot_leave_the_replica_is_told_there": ["/m/ctx/custom data/lock: '<NotSent>' / '<lock>'"],
    "what_no_process_can_be_sent_is_told_before_the_engine": ["/m/ctx/custom data/lock: '<NotSent>' / '<lock>'"],
    "what_does_not_arrive_on_a_node_is_told_there": ["/m/ctx/custom data/here: '<NotSent>' / '<Here>'"],
}


@pytest.fixture(scope="session")
def recorded() -> Recorded:
    """Return what the real wing told, by scenario."""
    return read_recorded()


@pytest.fixture(scope="module")
def real_wing(
    ray_cluster: Any, three_nodes: list[str], s3: str, bucket: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RealWing]:
    """A real Ray of three nodes, and a bucket."""
    wing = RealWing(ray_cluster, three_nodes, s3, tmp_path_factory.mktemp("contract"))
    try:
        yield wing
    finally:
        wing.close()


def assert_same(one: dict[str, Any], other: dict[str, Any], what: str) -> None:
    """Fail with a line for each difference."""
    lines = differences(one, other)
    if lines:
        pytest.fail(f"they differ ({what}):\n" + "\n".join(lines), pytrace=False)


@pytest.mark.parametrize("scenario", IN_ONE_PROCESS)
def test_fake(scenario: Scenario, recorded: Recorded) -> None:
    told = run_fake(scenario)
    scenario.holds(told)
    assert_same(told, recorded.get(scenario.name, {}), "the fake / what is recorded of the real wing")


@pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")
@pytest.mark.parametrize("scenario", IN_PROCESSES)
def test_fake_in_processes(scenario: Scenario, recorded: Recorded) -> None:
    told = run_fake(scenario, processes=True)
    scenario.holds(told)
    lines = differences(told, recorded.get(scenario.name, {}))
    assert lines == NOT_SENT.get(scenario.name, [])


@pytest.mark.ray
@pytest.mark.parametrize("scenario", EVERY)
def test_real(scenario: Scenario, real_wing: RealWing, recorded: Recorded, record: Recorded | None) -> None:
    told = real_wing.run(scenario)
    if record is not None:
        record[scenario.name] = told
    assert_same(told, run_fake(scenario, processes=scenario.apart), "the real wing / the fake")
    scenario.holds(told)
    if record is None:
        assert_same(told, recorded.get(scenario.name, {}), "the real wing / recorded.json, which is stale")


@pytest.mark.ray
@pytest.mark.parametrize("scenario", IN_ONE_PROCESS)
def test_fake_with_a_real_config(scenario: Scenario, recorded: Recorded) -> None:
    """A fake cluster takes a real ``LLMConfig`` too. Needs Ray Serve LLM, and no cluster."""
    require_engine()
    told = run_fake(scenario, real_config)
    assert_same(told, recorded.get(scenario.name, {}), "the fake with a real config / what is recorded")


@pytest.mark.ray
def test_the_harness_knows_the_engines_arguments() -> None:
    require_engine()
    assert engine_args.main(["--check"]) == 0, "stale: run `python scripts/engine_args.py`"


def test_nothing_is_recorded_that_is_no_scenario(recorded: Recorded) -> None:
    assert sorted(recorded) == sorted(SCENARIOS)


def test_a_recording_that_is_written_again_is_the_same() -> None:
    assert doctest.testmod(recorded_file).failed == 0  # which has its form
    written = RECORDED.read_text(encoding="utf-8")
    assert in_lines(read_recorded()).splitlines() == written.splitlines()  # a failure shows the lines
    assert in_lines(read_recorded()) == written


def test_every_point_is_recorded() -> None:
    recorded = RECORDED.read_text(encoding="utf-8")
    assert [point for point in HOOK_NAMES if f'"{point} ' not in recorded] == []


def test_every_fault_has_a_scenario() -> None:
    used = {type(fault) for scenario in SCENARIOS.values() for fault in scenario.faults}
    assert set(get_args(Fault)) - used == set()
