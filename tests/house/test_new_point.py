"""A new hook point is the four lines that ``_core/points.py`` asks for, and nothing else: a copy of the house gets one.

Its docs' tables are written by their script, and what is recorded of a real Ray needs one; everything else must do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
POINT = "on_before_warm_up"


class Edit(NamedTuple):
    """Lines that are written into a file, before the one line that begins with something."""

    file: str
    before: str
    lines: str


EDITS = [
    Edit("serve_llm_hooks/_core/points.py", '    "on_after_init",', f'    "{POINT}",\n'),
    Edit(
        "serve_llm_hooks/_core/points.py",
        '    HookPoint(\n        "on_after_init",',
        f'    HookPoint("{POINT}", "one more moment", after_engine=True),\n',
    ),
    Edit(
        "serve_llm_hooks/_replica/initialize.py",
        '                await run.start.point("on_after_init")',
        f'                await run.start.point("{POINT}")\n',
    ),
    Edit(
        "serve_llm_hooks/_sources/class_style.py",
        "    def on_after_init(self",
        f'    def {POINT}(self, ctx: CallbackCtx) -> _Nothing:\n        """One more moment."""\n\n',
    ),
]

SUITE = ["unit", "harness", "contract", "typing", "benchmarks/test_report.py"]
# They wait in real time or start pytest of their own: long, for what they would tell of a point.
SLOW = ["test_check.py", "test_check_processes.py", "test_clock.py", "test_load.py", "test_plugin.py"]
NOT_IN_IT = "tests/contract/test_contract.py::test_every_point_is_recorded"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository, without what is made of it."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "htmlcov"))
    return copy


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the copy, as if nothing else were installed of this package."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}  # xdist's too
    environ["PYTHONPATH"] = os.pathsep.join([str(copy), str(copy / "testing")])
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=copy, env=environ, capture_output=True, text=True, timeout=600, check=False)


def test_a_new_point_needs_four_lines(copy: Path) -> None:
    for edit in EDITS:
        file = copy / edit.file
        text, count = re.subn(f"(?m)^(?={re.escape(edit.before)})", edit.lines, file.read_text(encoding="utf-8"))
        assert count == 1, f"{edit.before!r} is {count} times in {edit.file}"
        file.write_text(text, encoding="utf-8")
    told = run(copy, "-c", "import serve_llm_hooks as s; print(s.__file__, *s.HOOK_POINTS)").stdout.split()
    assert told[0].startswith(str(copy))
    assert POINT in told

    tables = run(copy, "scripts/docs_tables.py")
    assert tables.returncode == 0, tables.stderr
    suite = [f"tests/{part}" for part in SUITE]
    ignored = [f"--ignore=tests/harness/{file}" for file in SLOW]
    options = ["-q", "-n", "2", "-m", "not ray", "--benchmark-disable", "--tb=short", "-p", "no:cacheprovider"]
    done = run(copy, "-m", "pytest", *suite, *ignored, "--deselect", NOT_IN_IT, *options)
    assert done.returncode == 0, f"with a new point:\n{done.stdout[-8000:]}{done.stderr[-2000:]}"
    assert re.search(r"\d{3,} passed", done.stdout), done.stdout[-500:]  # a whole suite, not a few tests
