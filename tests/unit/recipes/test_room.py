"""The room of recipes: what it costs to import, what is offered, and what it says where something is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest

import serve_llm_hooks.recipes
from serve_llm_hooks import HookLoadError, HookNotAllowedError, load_hooks
from serve_llm_hooks.recipes._extra import from_the_extra
from serve_llm_hooks_testing import FakeCluster, FakeLLMConfig
from tests.docs_blocks import ROOT
from tests.unit.stub import public_names

NAMES = public_names(serve_llm_hooks.recipes)


def test_importing_the_room_imports_no_recipe() -> None:
    script = "import json, sys, serve_llm_hooks.recipes; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = set(json.loads(done.stdout))
    assert {name for name in imported if name.startswith("serve_llm_hooks.recipes")} == {"serve_llm_hooks.recipes"}


def test_a_config_with_recipes_is_checked_on_a_machine_without_file_locks() -> None:
    script = "import sys; sys.modules['fcntl'] = None\nfrom serve_llm_hooks.recipes import " + ", ".join(NAMES)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_checks_its_arguments_where_the_config_is_made(name: str) -> None:
    recipe: Any = getattr(serve_llm_hooks.recipes, name)
    assert recipe.checks_arguments
    assert recipe.__name__ == name


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_has_a_section_in_the_docs_with_its_yaml(name: str) -> None:
    page = (ROOT / "docs" / "recipes.md").read_text()
    table, *sections = page.split("\n## ")
    [section] = [each for each in sections if f"`{name}`" in each.splitlines()[0]]
    assert f"`{name}`" in table
    assert f"serve_llm_hooks.recipes:{name}" in section
    for heading in ("**When.**", "**Costs.**", "**Needs.**"):
        assert heading in section


def test_a_misspelt_recipe_is_told_with_the_right_one() -> None:
    with pytest.raises(HookLoadError, match="did you mean 'BakedModel'"):
        load_hooks("serve_llm_hooks.recipes:BakedModle")


def test_a_missing_package_is_told_with_the_extra_that_brings_it() -> None:
    told = r"no_such_module is not .* pip install 'serve-llm-hooks\[recipes\]'"
    with pytest.raises(ModuleNotFoundError, match=told), from_the_extra():
        import_module("no_such_module")


def test_recipes_are_allowed_and_turned_off_as_the_docs_say(monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = {"hook": "serve_llm_hooks.recipes:BakedModel", "kwargs": {"path": "/no/such/folder"}}
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "somebody_else.*")
    with pytest.raises(HookNotAllowedError):
        FakeLLMConfig("m", hooks=[config])
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "serve_llm_hooks.recipes.*")
    monkeypatch.setenv("SERVE_LLM_HOOKS_DISABLE", "serve_llm_hooks.recipes.*:BakedModel.*")
    run = FakeCluster(nodes=1).run(FakeLLMConfig("m", hooks=[config]))
    assert {event.outcome for event in run.trace} == {"disabled"}
