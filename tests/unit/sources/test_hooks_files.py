"""Hooks files, folders of them, and paths with a dot where a colon is meant."""

from __future__ import annotations

import importlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookImportError, HookLoadError, HookNotAllowedError, load_hooks
from tests.unit.stub import SHOP, names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    WriteModule = Callable[[str, str], Path]

HEAD = "from serve_llm_hooks import hook\n"


def refuse(*refs: Any, kind: type[HookLoadError] = HookLoadError) -> str:
    """Return the message that a wrong entry is refused with."""
    with pytest.raises(kind) as caught:
        load_hooks(*refs)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _forget_files() -> Iterator[None]:
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        del sys.modules[name]


# -- from several threads at once -----------------------------------------------------------------------------------


def test_a_file_that_two_threads_import_at_once_is_whole_for_both(tmp_path: Path) -> None:
    file = tmp_path / "slow.py"
    file.write_text(f"import time\n{HEAD}{SHOP}\ntime.sleep(0.2)\n{SHOP.replace('def ', 'def more_')}")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: names(load_hooks(file.as_posix())), range(4)))
    assert found == [["first", "second", "third", "more_first", "more_second", "more_third"]] * 4


def test_a_file_that_fails_in_one_thread_fails_in_the_other(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import time\ntime.sleep(0.1)\n1 / 0\n")
    with ThreadPoolExecutor(2) as pool:
        said = list(pool.map(lambda _: refuse(file.as_posix(), kind=HookImportError), range(2)))
    assert (
        said == [f"hooks file '{file}' fails while it is imported: ZeroDivisionError: division by zero ({file}:3)"] * 2
    )
    file.write_text(HEAD + SHOP)
    importlib.invalidate_caches()
    assert len(load_hooks(file.as_posix())) == 3


def test_a_file_and_a_module_that_import_each_other_in_two_threads_do_not_wait_for_ever(
    tmp_path: Path, write_module: WriteModule
) -> None:
    file = tmp_path / "hooks.d" / "file.py"
    file.parent.mkdir()
    both = "import time\ntime.sleep(0.2)\n"
    file.write_text(f"{both}import crossing\n{HEAD}{SHOP}")
    write_module("crossing", f"{both}from serve_llm_hooks import load_hooks\n{SHOP}\nload_hooks({file.as_posix()!r})")
    results: list[object] = []

    def load(ref: str) -> None:
        try:
            results.append(len(load_hooks(ref)))
        except HookLoadError as error:
            results.append(error)

    threads = [threading.Thread(target=load, args=(ref,), daemon=True) for ref in (file.as_posix(), "crossing")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert 3 in results  # as Python's own: one of the two may see the other half imported, and says so


def test_a_file_that_loads_itself_while_it_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "itself.py"
    file.write_text(f"{HEAD}{SHOP}\nfrom serve_llm_hooks import load_hooks\nCOUNT = len(load_hooks(__file__))")
    assert len(load_hooks(file.as_posix())) == 3


def test_a_file_with_dots_in_its_name(tmp_path: Path) -> None:
    file = tmp_path / "my.own-hooks.py"
    file.write_text(HEAD + SHOP)
    (first, *_) = load_hooks(file.as_posix())
    assert first.source == file.as_posix()
    assert first.path.startswith("my_own-hooks_")


# -- folders --------------------------------------------------------------------------------------------------------


def test_a_folder_is_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "folder"
    folder.mkdir(parents=True)
    (folder / "b.py").write_text(HEAD + SHOP)
    (folder / "a.py").write_text(HEAD + "@hook('on_before_init')\ndef zeroth(ctx, *, size=1): pass\n")
    (folder / "helpers.py").write_text("def helper(): pass\n")
    (folder / "README.md").write_text("Hooks.")
    monkeypatch.chdir(tmp_path)
    for ref in ("a/folder", "a/folder/", folder.as_posix()):
        assert names(load_hooks(ref)) == ["zeroth", "first", "second", "third"]
    assert next(iter(load_hooks("a/folder"))).source == (folder / "a.py").as_posix()
    found = load_hooks("a/folder", {"hook": "a/folder/a.py:zeroth", "kwargs": {"size": 2}})
    assert [(one.name, one.kwargs) for one in found][-1] == ("zeroth", {"size": 2})


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    empty = (tmp_path / "empty").as_posix()
    assert refuse(empty) == f"'{empty}' in hooks=[...] is a folder without .py files ({empty})"
    assert refuse(f"{empty}:f") == (
        f"hooks file '{empty}' is a folder: name a file in it, as in '{empty}/hooks.py:function'"
    )
    (tmp_path / "empty" / "helpers.py").write_text("")
    assert refuse(empty).startswith(f"hooks file '{empty}' ({empty}/helpers.py) has no hooks: nothing in its namespace")
    assert refuse(f"{empty}/none") == f"hooks file '{empty}/none' is not there (looked at {empty}/none)"


def test_a_package_has_a_name(tmp_path: Path) -> None:
    folder = tmp_path / "company" / "hooks"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").write_text("")
    assert refuse(folder.as_posix()) == (
        f"'{folder}' in hooks=[...] is the package company.hooks: name that, or one of its modules, as in "
        "'company.hooks.hooks'"
    )


def test_a_folder_s_files_must_be_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(HEAD + SHOP)
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", (tmp_path / "a.py").as_posix())
    assert f"{tmp_path}/b.py" in refuse(tmp_path.as_posix(), kind=HookNotAllowedError)


# -- pkg.mod.fn -----------------------------------------------------------------------------------------------------

CLASS = """
class Style:
    def __init__(self, size=1): pass
    def on_before_init(self, ctx): pass

class Hooks:
    @staticmethod
    @hook("on_before_init")
    def inner(ctx): pass
"""


def test_a_dot_where_a_colon_is_meant(write_module: WriteModule) -> None:
    write_module("shop", SHOP + CLASS)
    assert names(load_hooks("shop.third", "shop.first")) == ["third", "first"]
    assert names(load_hooks("shop.Hooks.inner")) == ["inner"]
    assert load_hooks({"hook": "shop.third", "kwargs": {"bucket": "c"}}).hooks()[0].kwargs == {"bucket": "c"}
    assert load_hooks({"hook": "shop.Style", "kwargs": {"size": 2}}).hooks()[0].parameters == {"size": 2}


def test_a_module_s_missing_function_is_told_as_with_a_colon(write_module: WriteModule) -> None:
    write_module("shop", SHOP)
    assert refuse("shop.thrid") == (
        "hook 'shop:thrid': shop has no 'thrid' (did you mean 'third'?). Its hooks: first, second, third."
    )
    assert refuse("shop.no_hook") == (
        "hook 'shop.no_hook' is not decorated: put @hook(\"on_...\") on it to say where it runs"
    )


def test_what_is_neither_is_told_as_a_module(tmp_path: Path, write_module: WriteModule) -> None:
    write_module("other", SHOP)  # for its folder on the path
    (tmp_path / "company").mkdir()
    (tmp_path / "company" / "__init__.py").write_text("import company.mine\n" + HEAD + SHOP)
    (tmp_path / "company" / "mine.py").write_text(HEAD + SHOP)
    importlib.invalidate_caches()
    assert names(load_hooks("company.first")) == ["first"]
    assert names(load_hooks("company.mine.first")) == ["first"]
    for missing in ("company.hooks", "company.hooks.first", "no_such.module.first"):
        assert refuse(missing, kind=HookImportError).startswith(f"hooks module {missing!r} cannot be found (no module ")
    (tmp_path / "company" / "needs.py").write_text("import no_such_dependency\n" + HEAD + SHOP)
    importlib.invalidate_caches()
    assert "fails while it is imported: ModuleNotFoundError" in refuse("company.needs", kind=HookImportError)


def test_what_is_allowed_is_the_module(write_module: WriteModule, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module("shop", SHOP)
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "shop")
    assert names(load_hooks("shop.first")) == ["first"]
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "others")
    assert "add 'shop.first' to it" in refuse("shop.first", kind=HookNotAllowedError)
    monkeypatch.setenv("SERVE_LLM_HOOKS_ALLOW", "shop.first")
    assert "shop" in refuse("shop.first", kind=HookLoadError)
