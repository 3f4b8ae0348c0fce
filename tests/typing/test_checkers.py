"""What type-checks and what must not: ``right/`` is clean, ``wrong/`` fails on exactly its marked lines.

A marked line ends in ``# error: <part of mypy's message>``. Pyright has other words for the same: of it, only the
lines are asked.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from mypy import api

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RIGHT = sorted((HERE / "right").glob("*.py"))
WRONG = sorted((HERE / "wrong").glob("*.py"))

Line = tuple[str, int]  # the file's name and the number of the line

needs_pyright = pytest.mark.skipif(
    importlib.util.find_spec("pyright") is None, reason="pyright is not installed (make types has it)"
)


def marked_lines() -> dict[Line, str]:
    """The lines that must fail, and what mypy's message must hold."""
    return {
        (file.name, number): text.partition("# error: ")[2]
        for file in WRONG
        for number, text in enumerate(file.read_text().splitlines(), 1)
        if "# error: " in text
    }


@pytest.fixture(scope="module")
def mypy_errors() -> dict[Path, dict[int, list[str]]]:
    """What mypy says of all files, in one run, by file and line."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where mypy.ini and the stubs are
        # What they import has its own check.
        out, err, _ = api.run(["--follow-imports=silent", "--no-error-summary", *map(str, RIGHT + WRONG)])
    assert err == ""
    errors: dict[Path, dict[int, list[str]]] = {}
    for file, line, message in re.findall(r"^(.+?):(\d+): error: (.*)$", out, re.MULTILINE):
        errors.setdefault(ROOT / file, {}).setdefault(int(line), []).append(message)
    return errors


@pytest.fixture(scope="module")
def pyright_errors(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, set[int]]:
    """What pyright says of all files, in one run: the lines."""
    # A configuration of its own, because the project's leaves out what must fail; paths in it must be relative.
    folder = tmp_path_factory.mktemp("pyright").resolve()
    config = {
        "include": [os.path.relpath(HERE / name, folder) for name in ("right", "wrong")],
        "extraPaths": [str(ROOT), str(ROOT / "testing")],
        "stubPath": str(ROOT / "typings"),
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    errors: dict[Path, set[int]] = {}
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(RIGHT + WRONG)
    for one in report["generalDiagnostics"]:
        if one["severity"] == "error":
            errors.setdefault(Path(one["file"]), set()).add(one["range"]["start"]["line"] + 1)
    return errors


def test_there_is_something_to_check() -> None:
    assert len(RIGHT) >= 3
    assert len(marked_lines()) >= 40


@pytest.mark.parametrize("file", RIGHT, ids=lambda file: file.stem)
def test_mypy_accepts(file: Path, mypy_errors: dict[Path, dict[int, list[str]]]) -> None:
    assert mypy_errors.get(file, {}) == {}


@pytest.mark.parametrize("file", WRONG, ids=lambda file: file.stem)
def test_mypy_refuses_exactly_the_marked_lines(file: Path, mypy_errors: dict[Path, dict[int, list[str]]]) -> None:
    found = mypy_errors.get(file, {})
    wanted = {line: part for (name, line), part in marked_lines().items() if name == file.name}
    assert {line: messages for line, messages in found.items() if line not in wanted} == {}
    assert {line: part for line, part in wanted.items() if part not in " ".join(found.get(line, []))} == {}


@needs_pyright
@pytest.mark.parametrize("file", RIGHT, ids=lambda file: file.stem)
def test_pyright_accepts(file: Path, pyright_errors: dict[Path, set[int]]) -> None:
    assert pyright_errors.get(file, set()) == set()


@needs_pyright
@pytest.mark.parametrize("file", WRONG, ids=lambda file: file.stem)
def test_pyright_refuses_exactly_the_marked_lines(file: Path, pyright_errors: dict[Path, set[int]]) -> None:
    assert pyright_errors.get(file, set()) == {line for name, line in marked_lines() if name == file.name}
