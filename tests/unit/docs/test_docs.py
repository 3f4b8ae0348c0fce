"""What the docs say is what the code does: their tables, their Python, their lists."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import serve_llm_hooks
import serve_llm_hooks.ray
from scripts.docs_tables import faults
from serve_llm_hooks import (
    HOOK_POINTS,
    CallbackCtx,
    EngineProcessCtx,
    NodeCtx,
    NodeResult,
    ServeLLMHooksError,
)
from serve_llm_hooks._core.options import HookOptions
from tests.docs_blocks import PAGES, ROOT, blocks_of, run_page
from tests.unit.stub import public_names

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / "scripts" / "docs_tables.py"


def docs_tables(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


def test_the_tables_are_those_of_the_code() -> None:
    done = docs_tables("--check")
    assert done.returncode == 0, done.stderr


def test_a_stale_table_is_told_and_written_anew(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- hook-points:begin -->\nold\n<!-- hook-points:end -->\nafter\n")
    stale = docs_tables("--check", page)
    assert stale.returncode == 1
    assert "stale" in stale.stderr
    assert "old" in page.read_text()

    assert docs_tables(page).returncode == 0
    lines = page.read_text().splitlines()
    assert [lines[0], lines[-1]] == ["before", "after"]
    assert [line.split("`")[1] for line in lines if line.startswith("| `")] == list(HOOK_POINTS)
    assert docs_tables("--check", page).returncode == 0


def test_a_row_for_each_fault_with_all_its_tests(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text(
        '@pytest.mark.fault("no space", promise="`DownloadError`")\ndef test_one(): ...\n'
    )
    other = tmp_path / "tests" / "test_b.py"
    other.write_text(
        '@pytest.mark.fault("no space")\n@pytest.mark.fault("a cut", promise="the same")\ndef test_two(): ...'
    )
    one, two = "[`test_one`](../tests/test_a.py)", "[`test_two`](../tests/test_b.py)"
    rows = faults(tmp_path / "tests").splitlines()
    assert rows[2:] == [f"| no space | `DownloadError` | {one}, {two} |", f"| a cut | the same | {two} |"]

    for marker, complaint in (
        ('"a cut"', "no test of the fault 'a cut' says promise"),
        ('"no space", promise="more"', "promises once more what is promised of 'no space'"),
        ("NO_SPACE", r"test_b.py:1: the marker fault takes one text"),
        ("", r"test_b.py:1: the marker fault takes one text"),
    ):
        other.write_text(f"@pytest.mark.fault({marker})\ndef test_two(): ...")
        with pytest.raises(ValueError, match=complaint):
            faults(tmp_path / "tests")


def test_half_a_marker_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- hook-points:begin -->\n")
    assert docs_tables(page).returncode == 2


def test_the_readme_has_the_table() -> None:
    assert "<!-- hook-points:begin -->" in (ROOT / "README.md").read_text()


@pytest.mark.filterwarnings("ignore:initialization_class:DeprecationWarning")  # a before, in docs/migrating.md
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_python_of_a_page_runs(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    run_page(page, tmp_path, monkeypatch, request.getfixturevalue, ray=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_yaml_of_a_page_can_be_read(page: Path) -> None:
    import yaml

    for block in blocks_of(page, "yaml"):
        assert yaml.safe_load(block.text), f"{page}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_links_between_pages_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name} links {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name} links {target}"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("kind", [CallbackCtx, NodeCtx, EngineProcessCtx, NodeResult])
def test_every_field_of_the_context_is_described(kind: Any) -> None:
    page = (ROOT / "docs" / "context.md").read_text()
    section = page.partition(f"## `{kind.__name__}`")[2].partition("\n## ")[0]
    properties = [name for name, value in vars(kind).items() if isinstance(value, property)]
    fields = [field.name for field in dataclasses.fields(kind) if field.name != "load_llm_config"]
    assert section
    assert [name for name in (*fields, *properties) if f"`{name}`" not in section] == []


def test_every_error_is_described() -> None:
    page = (ROOT / "docs" / "hooks.md").read_text()
    errors = [
        name
        for name in public_names(serve_llm_hooks)
        if isinstance(found := getattr(serve_llm_hooks, name), type) and issubclass(found, ServeLLMHooksError)
    ]
    assert len(errors) > 10
    assert [name for name in errors if f"`{name}`" not in page] == []


@pytest.mark.parametrize("package", [serve_llm_hooks, serve_llm_hooks.ray], ids=lambda package: package.__name__)
def test_every_public_name_is_in_the_docs(package: Any) -> None:
    words = {word for page in PAGES for word in re.findall(r"\w+", page.read_text())}
    assert [name for name in public_names(package) if name not in words] == []


def test_every_option_of_a_hook_is_described() -> None:
    page = (ROOT / "docs" / "hooks.md").read_text()
    names = {"model_id", *HookOptions._fields} - {"point", "model_ids"}
    assert [name for name in names if not re.search(rf"`{name}[=`]", page)] == []


def test_every_variable_of_the_environment_is_in_the_docs_and_no_other() -> None:
    sources = [*(ROOT / "serve_llm_hooks").rglob("*.py"), *(ROOT / "testing").rglob("*.py")]
    read, shown = (
        {name for file in files for name in re.findall(r"SERVE_LLM_HOOKS_[A-Z]\w+", file.read_text())}
        for files in (sources, [page for page in PAGES if page.name != "CONTRIBUTING.md"])
    )
    assert shown == read


def test_every_older_name_is_mapped() -> None:
    page = (ROOT / "docs" / "migrating.md").read_text()
    for row in HOOK_POINTS.values():
        if row.phase is not None:
            assert f"| `{row.phase}` | phase | `{row.name}` |" in page
    names = page.partition("## Every name, and ours")[2]
    for name in ("Callback", "CallbackRunner", "RayServeLLMCallback", "CallbackCtx", "load_callback"):
        assert f"`{name}" in names
        assert name in public_names(serve_llm_hooks)
