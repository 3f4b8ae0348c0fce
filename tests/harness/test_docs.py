"""Every block of docs/testing.md is run: a Python block is a file, named in its first line.

The page is a project with a test suite, so it is run as one, by a pytest of its own; the page's ``file:`` comments keep
the blocks from being run as one module, as those of other pages are.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs_blocks import ROOT, blocks_of

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
    of_pytest = {
        name: value for one in settings if "tool" in one for name, value in one["tool"]["pytest"]["ini_options"].items()
    }
    assert set(of_pytest) == {"pythonpath", "filterwarnings"}
    lines = [f"{name} = {value}" for name, [value] in of_pytest.items()]
    (tmp_path / "pytest.ini").write_text("\n".join(["[pytest]", *lines, ""]))
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


def plain_pytest(folder: Path) -> tuple[int, str]:
    """Run `pytest` in a folder, which does not import from there, as `python -m pytest` does."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "testing")]),
        "PYTEST_ADDOPTS": "",
    }
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_first_test_of_the_readme(tmp_path: Path) -> None:
    """It runs with the settings that the page names, and without them says which they are."""
    readme = blocks_of(ROOT / "README.md", "python")
    named = [(block.file or block.text.partition("\n")[0].removeprefix("# "), block.text) for block in readme]
    for name, text in named:
        if name in ("my_company/llm_hooks.py", "tests/test_llm_hooks.py"):
            (tmp_path / name).parent.mkdir()
            (tmp_path / name).write_text(text)
    code, output = plain_pytest(tmp_path)
    assert code == 1, output
    assert f"my_company is in {tmp_path}, which pytest does not import from. Write pythonpath = [" in output
    assert "installed on every node" not in output

    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\npythonpath = ["."]\n')
    code, output = plain_pytest(tmp_path)
    assert code == 0, output
