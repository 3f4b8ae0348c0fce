"""``pytest tests/contract --record`` writes ``recorded.json`` anew, from the real wing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .recorded import Recorded


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write what the real wing tells to recorded.json")
    parser.addoption("--cases", type=int, help="so many random cases of the differential suite, and not the same ones")


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Iterator[Recorded | None]:
    """Where to write what the real wing tells; ``None`` unless it is asked for."""
    if not request.config.getoption("--record", default=False):
        yield None
        return
    from .recorded import read_recorded, write_recorded
    from .scenarios import SCENARIOS

    told = read_recorded()
    yield told
    write_recorded({name: told[name] for name in SCENARIOS if name in told})
