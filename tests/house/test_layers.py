"""The house: who may import whom, and how large a file may be. ``docs/design.md`` has the reasons."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs_blocks import PAGES, blocks_of

from . import rules
from .imports import Packages

if TYPE_CHECKING:
    from collections.abc import Iterable

# Each room, and the rooms that it may import, in functions and for checkers too. `face` is serve_llm_hooks/__init__.py.
LAYERS = {
    "_core": "",
    "_lazy_imports": "_core",
    "_observe": "_core",
    "_sources": "_core _observe",
    "_node": "_core _observe _sources",
    "_process": "_core _observe _sources _node",
    "_replica": "_core _observe _sources _node _process",
    "ray": "_lazy_imports _core _observe _sources _node _process _replica",
    "entry": "_core _observe _sources _node _process _replica ray",
    "face": "_lazy_imports _core _observe _sources _node _process _replica entry",
    "testing": "_lazy_imports _core _observe _sources _node _process _replica entry face",
    "cli": "face ray testing",
    "recipes": "_lazy_imports face",
}

ROOT = Path(__file__).resolve().parents[2]
HOUSE = Packages(
    {
        "serve_llm_hooks": ROOT / "serve_llm_hooks",
        "serve_llm_hooks_testing": ROOT / "testing" / "serve_llm_hooks_testing",
    }
)


def room_of(module: str) -> str:
    """Return the room that a module is in."""
    package, *inside = module.split(".")
    if package == "serve_llm_hooks_testing":
        return "testing"
    return inside[0] if inside else "face"


def none(broken: Iterable[str]) -> None:
    """Fail with a line for each that is broken."""
    lines = [line.replace(f"{ROOT}/", "") for line in broken]
    if lines:
        pytest.fail("\n".join(lines), pytrace=False)


def test_imports_point_down() -> None:
    none(rules.arrows_up(HOUSE, room_of, {room: set(below.split()) for room, below in LAYERS.items()}))


def test_only_a_function_of_the_entry_imports_ray() -> None:
    none(
        f"{each.file}:{each.line}: entry -> ray ({each.target}), not in a function: it must do without Ray"
        for each in HOUSE.imports()
        if each.at_once and room_of(HOUSE.names[each.file]) == "entry" and each.target.startswith("serve_llm_hooks.ray")
    )


def test_the_command_line_imports_what_users_see() -> None:
    ours = [each for each in HOUSE.imports() if room_of(HOUSE.names[each.file]) == "cli"]
    none(rules.behind_the_face(ours, ["serve_llm_hooks", "serve_llm_hooks_testing"]))
    none(
        f"{each.file}:{each.line}: cli -> {each.target}, not in a function: most commands do without Ray"
        for each in ours
        if each.at_once and each.target.startswith(("serve_llm_hooks.ray", "ray"))
    )


def test_recipes_import_what_users_see() -> None:
    ours = [each for each in HOUSE.imports() if room_of(HOUSE.names[each.file]) == "recipes"]
    inside = [each for each in ours if each.target.startswith("serve_llm_hooks.recipes._")]  # what they share
    listing = [each for each in ours if each.target == "serve_llm_hooks._lazy_imports" and each.file.stem == "__init__"]
    none(rules.behind_the_face([each for each in ours if each not in [*inside, *listing]], ["serve_llm_hooks"]))
    brought = ("ray", "vllm", "torch", "psutil", "pynvml", "httpx", "obstore", "huggingface_hub", "serve_llm_hooks.ray")
    none(
        f"{each.file}:{each.line}: recipes -> {each.target}, not in a function: only the hook that needs it imports it"
        for each in ours
        if each.at_once and each.target.startswith(brought)
    )


def test_a_recipe_is_short() -> None:
    recipes = [file for name, file in HOUSE.files.items() if room_of(name) == "recipes" and "._" not in name]
    assert len(recipes) > 0
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in recipes}
    none(f"{file}:{length}: longer than 150 lines" for file, length in lengths.items() if length > 150)


def test_no_files_import_each_other() -> None:
    none(rules.circles(HOUSE))


def test_one_file_imports_what_ray_keeps_to_itself() -> None:
    none(rules.imported_by_others(HOUSE, "ray.llm._internal", ROOT / "serve_llm_hooks" / "ray" / "internals.py"))


def test_no_file_is_too_long() -> None:
    none(rules.too_long(HOUSE.names))


def test_no_file_only_forwards() -> None:
    none(rules.forwards_only(HOUSE.names))


def test_examples_import_what_users_see() -> None:
    none(
        rules.behind_the_face(
            (each for file in (ROOT / "examples").rglob("*.py") for each in HOUSE.imports_of(file)),
            ["serve_llm_hooks", "serve_llm_hooks_testing"],
        )
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_imports_what_users_see(page: Path) -> None:
    none(
        rules.behind_the_face(
            (
                each
                for block in blocks_of(page, "python")
                for each in HOUSE.imports_in("\n" * (block.line - 1) + block.text, page)
            ),
            ["serve_llm_hooks", "serve_llm_hooks_testing"],
        )
    )
