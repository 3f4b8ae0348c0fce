from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import serve_llm_hooks

PACKAGE = Path(serve_llm_hooks.__path__[0])
MODULES = [
    ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for file in sorted(PACKAGE.rglob("*.py"))
    if file.parent.name != "ray"  # which import Ray
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0
