"""One file that imports Ray's internals, and what it says where they are not as it needs them."""

from __future__ import annotations

import logging
import subprocess
import sys
import tomllib
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from serve_llm_hooks.ray import internals
from serve_llm_hooks.ray.internals import SUPPORTED

from . import ours
from .wheels import VERSIONS

if TYPE_CHECKING:
    from pathlib import Path

ROOT = ours.PACKAGE.parent


def test_only_one_file_imports_rays_internals() -> None:
    places = ours.mentions_of_internals()
    assert places, "not even internals.py is found"
    assert [place for place in places if not place.startswith("ray/internals.py:")] == []


def test_the_checked_versions_are_all_the_supported_ones_and_the_extra_names_the_same() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    [ray] = [one for one in map(Requirement, extras["ray"]) if one.name == "ray"]
    assert ray.specifier == SpecifierSet(SUPPORTED)
    first, *_, last = (version.rpartition(".")[0] for version in VERSIONS)
    oldest, newest = (int(version.split(".")[1]) for version in (first, last))
    assert [version.rpartition(".")[0] for version in VERSIONS] == [f"2.{n}" for n in range(oldest, newest + 1)]
    before, after = f"2.{oldest - 1}.9", f"2.{newest + 1}.0"
    assert list(SpecifierSet(SUPPORTED).filter([before, *VERSIONS, after])) == list(VERSIONS)
    assert f"| Ray | {first} to {last};" in (ROOT / "README.md").read_text()


# Rays of a version that has none of what we need, or not all of it.
STUBS = {
    "older": {"ray/__init__.py": '__version__ = "2.40.0"'},
    "renamed": {
        "ray/__init__.py": '__version__ = "2.99.0"',
        "ray/llm/_internal/common/callbacks/base.py": "class CallbackBase: ...",
    },
    "nothing": {},
}


@pytest.mark.parametrize(
    ("stub", "statement", "told"),
    [
        (
            "older",
            "from serve_llm_hooks.ray.internals import CallbackCtx",
            ["Ray 2.40.0", "CallbackCtx", "ray.llm._internal.common.callbacks.base", "No module named 'ray.llm'"],
        ),
        (
            "renamed",
            "from serve_llm_hooks.ray.internals import CallbackCtx",
            ["Ray 2.99.0", "CallbackCtx", "has no attribute 'CallbackCtx'"],
        ),
        ("older", "from serve_llm_hooks.ray import LLMConfig", ["Ray 2.40.0", "LLMConfig", "No module named 'ray."]),
        ("older", "from serve_llm_hooks.ray import build_openai_app", ["Ray 2.40.0", "build_openai_app"]),
        ("nothing", "from serve_llm_hooks.ray import LLMConfig", ["LLMConfig", "without Ray, which is not installed"]),
    ],
)
def test_an_unsupported_ray_is_named_with_what_is_missing(
    tmp_path: Path, stub: str, statement: str, told: list[str]
) -> None:
    for name, text in STUBS[stub].items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    # Where Ray is installed, it must not be found: the stub is, or nothing.
    (tmp_path / "sitecustomize.py").write_text(HIDE_THE_REAL_RAY)
    script = f"""
try:
    {statement}
except ImportError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": f"{tmp_path}:{ROOT}", "STUB": str(tmp_path)},
    )
    for part in [*told, f"Supported: Ray {SUPPORTED}"]:
        assert part in done.stdout


@pytest.mark.parametrize(
    ("version", "told"), [("2.60.0", 0), ("2.58.1", 0), ("2.61.0", 1), ("3.0.0.dev0", 1), ("2.60.0-ours", 1)]
)
def test_a_ray_that_was_not_tested_is_told_though_it_has_all_the_names(
    version: str, told: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ray = ModuleType("ray")
    monkeypatch.setattr(ray, "__version__", version, raising=False)
    monkeypatch.setitem(sys.modules, "ray", ray)
    # A vLLM engine that another test has started lets the root logger's handlers through nothing below an error.
    caplog.set_level(logging.WARNING, "serve_llm_hooks")
    internals.warn_if_untested.cache_clear()
    internals.warn_if_untested()
    assert [record.levelname for record in caplog.records] == ["WARNING"] * told
    assert all(f"not tested with Ray {version}" in message for message in caplog.messages)
    assert all(f"Supported: Ray {SUPPORTED}." in message for message in caplog.messages)


HIDE_THE_REAL_RAY = """
import os, sys
from importlib.machinery import PathFinder

class OnlyTheStub:
    def find_spec(self, name, path=None, target=None):
        if name != "ray":
            return None
        found = PathFinder.find_spec(name, [os.environ["STUB"]])
        if found is None:
            raise ModuleNotFoundError("No module named 'ray'", name="ray")
        return found

sys.meta_path.insert(0, OnlyTheStub())
"""
