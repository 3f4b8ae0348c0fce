"""What type-checks and what must not: ``right/`` is clean, ``wrong/`` fails on exactly its marked lines.

A marked line ends in ``# error: <part of mypy's message>``. Pyright has other words for the same: of it, only the
lines are asked. Beside the files that lie here there is one of each that has every hook point in it: its text is made
of the table (``every_point.py``).
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

from . import every_point


def name_of(file: Path) -> str:
    """Return a file's short name, such as ``right/callbacks``."""
    return f"{file.parent.name}/{file.stem}"


HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MADE = {"right/every_point": every_point.right(), "wrong/every_point_wrongly": every_point.wrong()}
RIGHT = sorted([*(name_of(file) for file in HERE.glob("right/*.py")), "right/every_point"])
WRONG = sorted([*(name_of(file) for file in HERE.glob("wrong/*.py")), "wrong/every_point_wrongly"])

needs_pyright = pytest.mark.skipif(
    importlib.util.find_spec("pyright") is None, reason="pyright is not installed (make types has it)"
)


class Files(dict[str, Path]):
    """The files, by name."""

    def marked_lines(self, name: str) -> dict[int, str]:
        """Return the lines of a file that must fail, with what mypy's message must hold."""
        return {
            number: text.partition("# error: ")[2]
            for number, text in enumerate(self[name].read_text().splitlines(), 1)
            if "# error: " in text
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Those that lie here, and those that are made."""
    files = Files({name_of(file): file for kind in ("right", "wrong") for file in HERE.glob(f"{kind}/*.py")})
    folder = tmp_path_factory.mktemp("every_point")
    for name, text in MADE.items():
        files[name] = folder / f"{name}.py"
        files[name].parent.mkdir()
        files[name].write_text(text)
    return files


@pytest.fixture(scope="module")
def mypy_errors(files: Files) -> dict[str, dict[int, list[str]]]:
    """Return mypy's messages on all files, from one run, by file and line. Its cache is in the working folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # where mypy.ini and the stubs are
        # What they import has its own check.
        out, err, _ = api.run(["--follow-imports=silent", "--no-error-summary", *map(str, files.values())])
    assert err == ""
    errors: dict[str, dict[int, list[str]]] = {}
    for file, line, message in re.findall(r"^(.+?):(\d+): error: (.*)$", out, re.MULTILINE):
        errors.setdefault(name_of(Path(file)), {}).setdefault(int(line), []).append(message)
    return errors


@pytest.fixture(scope="module")
def pyright_errors(files: Files, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[int]]:
    """Return the lines of which pyright complains in all files, from one run."""
    # A configuration of its own, because the project's leaves out what must fail; paths in it must be relative.
    folder = tmp_path_factory.mktemp("pyright").resolve()
    config = {
        "include": [os.path.relpath(file, folder) for file in files.values()],
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
    errors: dict[str, set[int]] = {}
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == len(files)
    for one in report["generalDiagnostics"]:
        if one["severity"] == "error":
            errors.setdefault(name_of(Path(one["file"])), set()).add(one["range"]["start"]["line"] + 1)
    return errors


def test_there_is_something_to_check(files: Files) -> None:
    assert sorted(files) == [*RIGHT, *WRONG]
    assert len(RIGHT) >= 4
    assert len(WRONG) >= 4
    assert all(bool(files.marked_lines(name)) == (name in WRONG) for name in files)


@pytest.mark.parametrize("name", RIGHT)
def test_mypy_accepts(name: str, mypy_errors: dict[str, dict[int, list[str]]]) -> None:
    assert mypy_errors.get(name, {}) == {}


@pytest.mark.parametrize("name", WRONG)
def test_mypy_refuses_exactly_the_marked_lines(
    name: str, files: Files, mypy_errors: dict[str, dict[int, list[str]]]
) -> None:
    found, wanted = mypy_errors.get(name, {}), files.marked_lines(name)
    assert {line: messages for line, messages in found.items() if line not in wanted} == {}
    assert {line: part for line, part in wanted.items() if part not in " ".join(found.get(line, []))} == {}


@needs_pyright
@pytest.mark.parametrize("name", RIGHT)
def test_pyright_accepts(name: str, pyright_errors: dict[str, set[int]]) -> None:
    assert pyright_errors.get(name, set()) == set()


@needs_pyright
@pytest.mark.parametrize("name", WRONG)
def test_pyright_refuses_exactly_the_marked_lines(name: str, files: Files, pyright_errors: dict[str, set[int]]) -> None:
    assert pyright_errors.get(name, set()) == set(files.marked_lines(name))
