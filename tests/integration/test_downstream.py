"""What a downstream project gets: our wheel, in an environment of its own, without Ray; and its suite passes there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "examples" / "downstream"


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a clean environment that holds our wheel and its `testing` extra."""
    pytest.importorskip("build", reason="build is not installed")
    folder = tmp_path_factory.mktemp("downstream")
    # Without isolation: hatchling is here already, and the build then needs no network.
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder / "dist", ROOT, cwd=folder)
    [wheel] = (folder / "dist").glob("*.whl")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    try:
        run(python, "-m", "pip", "--disable-pip-version-check", "install", "-q", f"{wheel}[testing]", cwd=folder)
    except AssertionError as error:
        if os.environ.get("CI") == "true" or "No matching distribution found" not in str(error):
            raise
        pytest.skip("the package index cannot be reached")  # a clean environment has nothing to install from then
    return python


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example outside this checkout, so that nothing of ours is on its path."""
    return Path(
        shutil.copytree(PROJECT, tmp_path / "downstream", ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    )


def test_the_environment_has_no_ray(python: Path, tmp_path: Path) -> None:
    installed = run(python, "-m", "pip", "list", "--format=freeze", cwd=tmp_path)
    assert "serve-llm-hooks==" in installed.replace("_", "-")
    assert not re.search(r"^(ray|torch|vllm|pydantic)==", installed, flags=re.MULTILINE)


def test_its_suite_passes_and_takes_a_second_but_for_check_hooks(python: Path, project: Path) -> None:
    output = run(python, "-m", "pytest", "-q", "--durations=0", "--durations-min=0", "-vv", cwd=project)
    found = re.search(r"(\d+) passed", output)
    assert found is not None, output
    assert int(found[1]) >= 20
    # Without pytest's own start-up and imports: what the tests themselves took. `check_hooks` starts processes.
    took = re.findall(r"^(\d+\.\d+)s (?:setup|call|teardown) +\S+::(\w+)", output, flags=re.MULTILINE)
    seconds = sum(float(took_s) for took_s, test in took if test != "test_they_would_survive_production")
    assert seconds < 1, output


def test_both_packages_are_typed(python: Path, tmp_path: Path) -> None:
    code = (
        "import importlib.resources as r, serve_llm_hooks, serve_llm_hooks_testing as t; "
        "print([r.files(p).joinpath('py.typed').is_file() for p in (serve_llm_hooks, t)])"
    )
    assert run(python, "-c", code, cwd=tmp_path).strip() == "[True, True]"
