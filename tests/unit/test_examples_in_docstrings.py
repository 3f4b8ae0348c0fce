from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import serve_llm_hooks

MODULES = [f"serve_llm_hooks.{one.name}" for one in pkgutil.iter_modules(serve_llm_hooks.__path__) if not one.ispkg]


@pytest.mark.parametrize("name", ["serve_llm_hooks", *MODULES])
def test_the_examples_are_true(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert failed == 0
