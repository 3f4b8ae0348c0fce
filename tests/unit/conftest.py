from __future__ import annotations

import importlib
import logging
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _own_registry() -> Iterator[None]:
    """Forget after each test what it has decorated."""
    before = list(registry)
    registry.clear()
    yield
    registry.clear()
    for one in before:
        registry.add(one)


@pytest.fixture(autouse=True)
def _fresh_log() -> Iterator[None]:
    """Log levels as in a process of its own. Tests with a real Ray, run before in this one, have made it talk; starting
    a vLLM engine has let the root logger and its handlers, pytest's among them, through nothing below an error."""
    root, ours = logging.getLogger(), logging.getLogger("serve_llm_hooks")
    logs: list[logging.Logger | logging.Handler] = [root, ours, *root.handlers]
    before = [(each, each.level) for each in logs]
    for handler in root.handlers:
        handler.setLevel(logging.NOTSET)
    root.setLevel(logging.WARNING)
    ours.setLevel(logging.NOTSET)
    yield
    for each, level in before:
        each.setLevel(level)


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], Path]]:
    """Write a module that can be imported by its name until the test is over."""
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)

    def write(name: str, source: str) -> Path:
        file = tmp_path / f"{name}.py"
        file.write_text("from serve_llm_hooks import hook, skip\n" + textwrap.dedent(source))
        importlib.invalidate_caches()
        return file

    yield write
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
