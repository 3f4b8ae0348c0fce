"""Test the rollout of replicas of Serve, without starting any."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import require_engine

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True)
def _engine() -> None:
    require_engine()


@pytest.mark.parametrize(("version", "of_rollout"), [("v1", "v1"), (None, "replica-1")])
def test_the_rollout_of_a_replica(version: Any, of_rollout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from serve_llm_hooks.ray.rollout import rollout_of_replica

    context = SimpleNamespace(app_name="app", deployment="llm", code_version=version, replica_tag="replica-1")
    monkeypatch.setattr("ray.serve.get_replica_context", lambda: context)
    assert rollout_of_replica() == ("app#llm", of_rollout)


def test_outside_of_serve_there_is_none() -> None:
    from serve_llm_hooks.ray.rollout import rollout_of_replica

    assert rollout_of_replica() is None
