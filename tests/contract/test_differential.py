"""Random sets of hooks and faults on all wings: the traces must be equal, and all else that is told of a start.

The cases are the same in each run of CI, which a change turns red and not chance. ``make differential CASES=1000``
draws others, and says by which seed. A failure shows the smallest case that still fails, as Python: give it to
``assert_wings_agree`` in a test of its own, and to ``REPORTED`` once it is mended.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, note, settings

from .cases import Case, cases, scenario_of
from .drawn import Drawn
from .test_contract import real_wing as real_wing  # a fixture
from .told import differences
from .wings import run_fake

if TYPE_CHECKING:
    from .real_wing import RealWing
    from .told import Told

IN_CI = 40
WITHOUT_RAY = 10
# What cannot be pickled, or not unpickled, stays in a process that has ended.
NOT_SENT = (": '<NotSent>' / ", "/error/cause: 'RuntimeError' / 'TwoArguments'")
HAS_PROCESSES = sys.platform == "linux"

# Cases that once differed.
REPORTED: dict[str, Case] = {
    "nothing at all": Case(),
    "every point of a node": Case(
        (Drawn("h0", "on_before_node_download", (("see",),)), Drawn("h1", "on_after_node_download", is_async=True)),
        group=2,
    ),
}


def run_in_processes(case: Case) -> dict[str, Told] | None:
    """A case on a fake cluster in processes; ``None`` where that cannot be told."""
    if not HAS_PROCESSES or case.shut_down_s is not None:  # its process has ended before it could be stopped
        return None
    return run_fake(scenario_of(case), processes=True)


def assert_same(one: dict[str, Told], other: dict[str, Told], which: str) -> None:
    """Fail with a line for each difference."""
    lines = [line for line in differences(one, other) if not any(each in line for each in NOT_SENT)]
    assert not lines, f"{which} differ:\n" + "\n".join(lines)


def assert_fakes_agree(case: Case) -> dict[str, Told]:
    """Run a case on the fake wings; what it told."""
    told = run_fake(scenario_of(case))
    apart = run_in_processes(case)
    if apart is not None:
        assert_same(apart, told, "the fake in processes and the fake")
    return told


def assert_wings_agree(case: Case, real_wing: RealWing) -> None:
    """Run a case on all wings."""
    told = assert_fakes_agree(case)
    assert_same(real_wing.run(scenario_of(case)), told, "the real wing and the fake")


@settings(
    max_examples=WITHOUT_RAY, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(case=cases())
def test_the_fake_wings_agree(case: Case) -> None:
    assert_fakes_agree(case)


@pytest.mark.ray
@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in REPORTED.items()])
def test_what_was_reported(case: Case, real_wing: RealWing) -> None:
    assert_wings_agree(case, real_wing)


@pytest.mark.ray
def test_all_wings_agree(real_wing: RealWing, request: pytest.FixtureRequest) -> None:
    number = request.config.getoption("--cases", default=None)
    logging.disable(logging.CRITICAL)  # a failure shows a case, and not the log of all of them
    request.addfinalizer(lambda: logging.disable(logging.NOTSET))
    seen: list[Case] = []
    begun_s = time.monotonic()

    @settings(
        max_examples=number or IN_CI,
        derandomize=number is None,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(case=cases())
    def agree(case: Case) -> None:
        seen.append(case)
        note(f"case {len(seen)}, after {time.monotonic() - begun_s:.0f} s")
        assert_wings_agree(case, real_wing)

    agree()
    print(f"{len(seen)} random cases on all wings, {time.monotonic() - begun_s:.0f} s: they tell the same")
    assert len(seen) >= (number or IN_CI)
