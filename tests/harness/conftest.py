"""Fixtures that the tests of the harness share."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks import HookRegistry, registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def hooks() -> HookRegistry:
    """An empty registry."""
    return HookRegistry()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """Write a module of hooks that travels by reference, as a team's own does; gives its name back."""
    monkeypatch.syspath_prepend(tmp_path)
    before = list(registry)
    names = []

    def write(name: str, source: str) -> str:
        head = "from serve_llm_hooks import hook, skip\n"
        (tmp_path / f"{name}.py").write_text(head + textwrap.dedent(source))
        names.append(name)
        return name

    yield write
    for name in names:
        sys.modules.pop(name, None)
    registry.clear()
    for one in before:
        registry.add(one)
