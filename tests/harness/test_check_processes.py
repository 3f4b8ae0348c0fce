"""``check_hooks`` on modules that count on what does not cross between processes, and on others that only seem to."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import registry
from serve_llm_hooks_testing import check_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serve_llm_hooks_testing import HookCheck

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")

HERE = Path(__file__).parent / "checked"
BAD = sorted(file.stem for file in (HERE / "bad").glob("[!_]*.py"))
GOOD = sorted(file.stem for file in (HERE / "good").glob("[!_]*.py"))

# What is only noted: a rank that each process counts for itself is told from one that is reported by nothing.
NOTED = {"ranks"}


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], HookCheck]]:
    """Check a module; what its import and its hooks leave in this process is gone afterwards."""
    before = list(registry)
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def check(name: str) -> HookCheck:
        names.append(f"{__package__}.checked.{name}")
        module: Any = importlib.import_module(names[-1])
        return check_hooks(*getattr(module, "HOOKS", [names[-1]]), check=False)

    yield check
    for name in names:
        sys.modules.pop(name, None)
    registry.clear()
    for hook in before:
        registry.add(hook)


def test_there_are_as_many_as_we_say() -> None:
    assert (len(BAD), len(GOOD)) == (24, 20)
    assert set(BAD) > NOTED


@pytest.mark.parametrize("name", [name for name in BAD if name not in NOTED])
def test_what_does_not_cross_is_found(checked: Callable[[str], HookCheck], name: str) -> None:
    assert checked(f"bad.{name}").problems


@pytest.mark.parametrize("name", sorted(NOTED))
def test_what_cannot_be_told_is_noted(checked: Callable[[str], HookCheck], name: str) -> None:
    found = checked(f"bad.{name}")
    assert (found.problems, bool(found.notes)) == ([], True)


@pytest.mark.parametrize("name", GOOD)
def test_who_does_no_wrong_is_not_accused(checked: Callable[[str], HookCheck], name: str) -> None:
    assert checked(f"good.{name}").problems == []
