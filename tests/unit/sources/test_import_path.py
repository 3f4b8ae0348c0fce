"""Callbacks by their path."""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import load_callback, load_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from pathlib import Path

    WriteModule = Callable[[str, str], Path]
    Data = MutableMapping[str, Any]

HERE = __name__


class Phases:
    def __call__(self, phase: str, config: Any, data: Any) -> None: ...


def test_load_callback() -> None:
    assert load_callback("os.path:basename") is os.path.basename
    assert load_callback("os.path.basename") is os.path.basename
    assert load_callback(os.path.basename) is os.path.basename
    assert load_callback(f"{HERE}:Phases.__call__") is Phases.__call__


@pytest.mark.parametrize("spec", ["", "fn", ":fn", "pkg:", ".fn", "pkg."])
def test_load_callback_wants_a_path(spec: str) -> None:
    with pytest.raises(ValueError, match=r"is no path of a callback: write 'pkg\.mod:name' or"):
        load_callback(spec)


def test_load_callback_cannot_import() -> None:
    with pytest.raises(ImportError) as caught:
        load_callback("no_such_pkg.mod:fn")
    assert str(caught.value).startswith(
        "callback 'no_such_pkg.mod:fn': module 'no_such_pkg.mod' cannot be found (no module 'no_such_pkg'). "
        "Is it installed on every node, or shipped with the deployment?"
    )
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_load_callback_of_a_module_that_fails(write_module: WriteModule) -> None:
    file = write_module("broken", "1 / 0")
    with pytest.raises(ImportError) as caught:
        load_callback("broken.fn")
    assert str(caught.value) == (
        "callback 'broken.fn': module 'broken' fails while it is imported: ZeroDivisionError: division by zero "
        f"({file}:2)"
    )


def test_a_module_that_fails_in_pythons_own_library(write_module: WriteModule) -> None:
    file = write_module("broken", "import json\n\nSETTINGS = json.loads('{')\n")
    with pytest.raises(ImportError) as caught:
        load_hooks("broken")
    assert str(caught.value).endswith(f" ({file}:4)")


def test_load_callback_finds_no_such_name(write_module: WriteModule) -> None:
    write_module("shop", "def callback(phase, config, data): pass\nnumber = 3\n_hidden = print\n")
    with pytest.raises(AttributeError) as caught:
        load_callback("shop:calback")
    assert str(caught.value) == (
        "callback 'shop:calback': shop has no 'calback' (did you mean 'callback'?). "
        "Its callables: callback, hook, skip."
    )
    write_module("bare", "del hook, skip")
    with pytest.raises(AttributeError, match="Its callables: none"):
        load_callback("bare:calback")
    with pytest.raises(TypeError, match=r"callback 'shop:number' is not callable: an int"):
        load_callback("shop:number")


def test_load_callback_of_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "a_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "module.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    for _ in range(2):  # not imported yet; imported
        with pytest.raises(TypeError, match=r"names a module: write 'a_package\.module:name', with the name in it"):
            load_callback("a_package:module")
        __import__("a_package.module")
    with pytest.raises(AttributeError, match=r"a_package has no 'module\.x'"):
        load_callback("a_package:module.x")
    with pytest.raises(AttributeError, match=r"a_package has no 'nothing\.x'"):
        load_callback("a_package:nothing.x")
