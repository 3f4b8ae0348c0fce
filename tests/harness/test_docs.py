"""Every block of docs/testing.md is run: a Python block is a file, named in its first line.

The page is a project with a test suite, so it is run as one, by a pytest of its own; the page's ``file:`` comments keep
the blocks from being run as one module, as those of other pages are.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from .test_plugin import run_pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
# But for what needs Ray, which tests/integration runs.
BLOCKS = re.findall(
    r"(?<!needs: ray -->\n)^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of the page's blocks."""
    for language, code in BLOCKS:
        if language == "python":
            name = code.partition("\n")[0].removeprefix("# ")
            assert re.fullmatch(r"[\w/]+\.py", name), f"a block that names no file: {name}"
            file = tmp_path / name
            assert not file.exists(), f"two blocks are named {name}"
            file.parent.mkdir(exist_ok=True)
            file.write_text(code)
    settings = [tomllib.loads(code) for language, code in BLOCKS if language == "toml"]
    [warnings] = [one["tool"]["pytest"]["ini_options"]["filterwarnings"] for one in settings if "tool" in one]
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = .\nfilterwarnings = {warnings[0]}\n")
    return tmp_path


def test_the_blocks_run(project: Path) -> None:
    code, output = run_pytest(project, None, "tests")
    assert code == 0, output


def test_the_failure_reads_as_shown(project: Path) -> None:
    code, output = run_pytest(project, None, "fails")
    assert code == 1, output
    [shown] = [text for language, text in BLOCKS if language == "text"]
    told = [line.partition(" ")[2].removeprefix("      AssertionError: ").strip() for line in output.splitlines()]
    for line in shown.splitlines():
        assert line.strip() in told, output


def test_there_is_no_other_kind_of_block() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "toml", "text"}
