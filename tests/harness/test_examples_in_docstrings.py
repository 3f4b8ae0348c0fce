"""The examples in the harness's docstrings do what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from typing import Any

import pytest

import serve_llm_hooks_testing

MODULES = [
    "serve_llm_hooks_testing",
    *(module.name for module in pkgutil.walk_packages(serve_llm_hooks_testing.__path__, "serve_llm_hooks_testing.")),
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS).failed == 0


def test_everything_public_has_an_example() -> None:
    harness: Any = serve_llm_hooks_testing  # its names are found at run time, so checkers know no __all__ of it
    without = [
        name
        for name in harness.__all__
        if not name.endswith(("Error", "Warning"))
        and name not in ("Fault", "FakeAnswer", "FakeNode", "HookCheck")  # what functions and runs give
        and ">>>" not in (getattr(harness, name).__doc__ or "")
    ]
    assert without == []
