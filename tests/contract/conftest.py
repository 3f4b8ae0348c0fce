"""``pytest tests/contract --record`` writes ``recorded.json`` anew, from the real wing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="write what the real wing tells to recorded.json")


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Iterator[dict[str, Any] | None]:
    """Where to write what the real wing tells; ``None`` unless it is asked for."""
    if not request.config.getoption("--record", default=False):
        yield None
        return
    from .scenarios import SCENARIOS
    from .test_contract import RECORDED

    told: dict[str, Any] = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {}
    yield told
    in_order = {name: told[name] for name in SCENARIOS if name in told}
    RECORDED.write_text(json.dumps(in_order, indent=1, sort_keys=True) + "\n", encoding="utf-8")
