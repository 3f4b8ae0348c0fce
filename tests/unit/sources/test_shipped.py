"""Test the messages on shipped code that is not where it was looked for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from serve_llm_hooks import HookImportError, load_hooks
from serve_llm_hooks._sources.shipped import how_to_ship

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def working_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Ray has shipped, as a process sees it."""
    folder = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    folder.mkdir(parents=True)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.chdir(folder)
    return folder


def test_where_nothing_was_shipped_it_says_how() -> None:
    assert how_to_ship("pkg/mod").startswith("Is it installed on every node, or shipped with the deployment?")


def test_a_test_beside_the_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain pytest does not import from the folder that it is run in."""
    (tmp_path / "acme_llm").mkdir()
    (tmp_path / "acme_llm" / "llm_hooks.py").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HookImportError) as caught:
        load_hooks("acme_llm.llm_hooks")
    assert str(caught.value) == (
        "hooks module 'acme_llm.llm_hooks' cannot be found (no module 'acme_llm'). acme_llm is in "
        f'{tmp_path}, which pytest does not import from. Write pythonpath = ["."] below [tool.pytest.ini_options] in '
        "the pyproject.toml there, or run `python -m pytest`."
    )
    assert "installed on every node" in how_to_ship("other/llm_hooks")
    monkeypatch.delitem(sys.modules, "pytest")  # a replica, a node
    assert "installed on every node" in how_to_ship("acme_llm/llm_hooks")


def test_the_inside_of_a_package_was_zipped(working_dir: Path) -> None:
    """The most common first mistake: the top folder of the zip is the package itself."""
    for name in ("__init__.py", "llm_hooks.py", ".git", "__pycache__"):
        (working_dir / name).touch()
    (working_dir / "data").mkdir()
    with pytest.raises(HookImportError) as caught:
        load_hooks("acme_llm.llm_hooks")
    assert str(caught.value) == (
        "hooks module 'acme_llm.llm_hooks' cannot be found (no module 'acme_llm'). Code was shipped to this process, "
        "but it is not in there: looked for acme_llm/llm_hooks.py or acme_llm/llm_hooks/__init__.py; working_dir "
        f"({working_dir}) has __init__.py, data/, llm_hooks.py. Ray takes away the one top folder of a zip, so a zip "
        "of a package has the package's parent as its top folder (anything/pkg/mod.py)."
    )


def test_the_names_are_those_of_the_deepest_folder_and_not_all(working_dir: Path) -> None:
    (working_dir / "hooks").mkdir()
    for number in range(20):
        (working_dir / "hooks" / f"h{number:02}.py").touch()
    with pytest.raises(HookImportError) as caught:
        load_hooks("hooks/mine.py")
    assert "looked for hooks/mine.py; working_dir" in str(caught.value)
    assert "has hooks/h00.py, hooks/h01.py, " in str(caught.value)
    assert "hooks/h11.py and 8 more. Ray takes" in str(caught.value)


def test_a_folder_that_is_empty_or_gone(working_dir: Path) -> None:
    assert "has nothing in it. Ray" in how_to_ship("pkg/mod")
    working_dir.rmdir()
    assert "has nothing that can be read (FileNotFoundError). Ray" in how_to_ship("pkg/mod")


def test_py_modules_are_named_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "py_modules_files" / "_ray_pkg_2" / "other").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "py_modules_files" / "_ray_pkg_2")
    assert f"py_modules ({tmp_path}/py_modules_files/_ray_pkg_2) has other/." in how_to_ship("pkg/mod")
