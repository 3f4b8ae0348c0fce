"""The decision what a hook's return value means, and the reason of a veto."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from serve_llm_hooks import Skip, skip
from serve_llm_hooks._core.veto import InvalidResult, decide


class TwoArguments(Exception):
    def __init__(self, op: str, code: int) -> None:
        super().__init__(f"{op} gave {code}")


class Unreadable:
    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("baked in", "baked in"),
        (TwoArguments("get", 403), "TwoArguments: get gave 403"),
        (Unreadable(), "<Unreadable, whose text cannot be read>"),
        (404, "404"),
        (["a", "b"], "['a', 'b']"),
    ],
)
def test_whatever_is_given_as_the_reason_is_a_text_that_travels(given: Any, reason: str) -> None:
    assert skip(given).reason == reason
    assert pickle.loads(pickle.dumps(skip(given))) == Skip(reason)


def test_a_long_reason_is_shortened() -> None:
    assert len(skip("z" * 2_000_000).reason) < 600


def test_what_means_what() -> None:
    assert decide(None, "on_before_init") is decide(True, "on_before_init") is None
    assert decide(False, "on_before_init") == Skip("")
    assert decide(skip("why"), "on_before_download") == Skip("why")
    assert isinstance(decide(False, "on_after_init"), InvalidResult)
    assert isinstance(decide({}, "on_before_init"), InvalidResult)
