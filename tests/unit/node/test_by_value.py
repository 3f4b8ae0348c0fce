"""Test that a pickled hook works in a process that has neither its script nor its hooks file."""

from __future__ import annotations

import fnmatch
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import HookImportError, HookPickleError, load_hooks
from serve_llm_hooks._node.by_value import dumps, names_in
from serve_llm_hooks._node.packing import pack_hooks

if TYPE_CHECKING:
    from pathlib import Path

CACHED = """
import functools

from serve_llm_hooks import hook

calls = []

@functools.cache
def fibonacci(n):
    calls.append(n)
    return n if n < 2 else fibonacci(n - 1) + fibonacci(n - 2)

class Store:
    @functools.lru_cache(maxsize=7, typed=True)
    def folder(self):
        return "/models"

@hook("on_before_node_download")
@functools.lru_cache
def ask(ctx):
    ctx["fibonacci"] = (fibonacci(10), fibonacci(10), len(calls))
    ctx["parameters"] = Store.folder.cache_parameters()
    ctx["folder"] = Store().folder()
"""

THERE = """
import pickle, sys
hook = pickle.loads(sys.stdin.buffer.read())
class Ctx(dict):
    __hash__ = object.__hash__
ctx = Ctx()
hook.call(ctx)
print(dict(ctx))
"""

ASKED = {"fibonacci": (55, 55, 11), "parameters": {"maxsize": 7, "typed": True}, "folder": "/models"}


def in_another_process(data: bytes) -> str:
    """Return what a fresh process prints when it is sent a pickled hook."""
    return subprocess.run([sys.executable, "-c", THERE], input=data, capture_output=True, check=True).stdout.decode()


def test_a_cached_function_of_a_hooks_file_travels(tmp_path: Path) -> None:
    file = tmp_path / "cached.py"
    file.write_text(CACHED)
    (packed,) = pack_hooks(load_hooks(str(file)))
    assert in_another_process(packed.data) == f"{ASKED}\n"


def test_a_cached_function_of_a_script_travels(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        CACHED + "import sys\nfrom serve_llm_hooks._node.packing import pack_hooks\n"
        "from serve_llm_hooks import registry\n"
        "sys.stdout.buffer.write(pack_hooks(registry)[0].data)\n"
    )
    data = subprocess.run([sys.executable, str(script)], capture_output=True, check=True).stdout
    assert in_another_process(data) == f"{ASKED}\n"


def test_a_cached_function_of_a_module_travels_by_its_name() -> None:
    assert names_in(dumps(fnmatch._compile_pattern)) == {("fnmatch", "_compile_pattern")}  # type: ignore[attr-defined]  # private


BY_NAME = """
import typing

from serve_llm_hooks import hook

Folder = typing.NewType("Folder", str)

def named() -> Folder: ...

class Store:
    @hook("on_before_node_download")
    @staticmethod
    def never(ctx): ...

@hook("on_before_node_download")
def ask(ctx, *, kind=Folder):
    named()
"""


def test_what_pickle_sends_by_name_out_of_a_hooks_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "by_name.py"
    file.write_text(BY_NAME)
    with pytest.raises(HookPickleError) as caught:
        pack_hooks(load_hooks(f"{file}:ask"))
    assert "it uses by_name_" in str(caught.value)
    assert ".Folder, which pickle sends by name, and no other process has this module" in str(caught.value)
    assert f"({file})" in str(caught.value)
    assert "Make it inside the hook, or move it into a module" in str(caught.value)


WITH_SIBLING = """
from serve_llm_hooks import hook
{}

@hook("on_before_node_download")
def ask(ctx):
    {}
"""


@pytest.mark.parametrize(
    ("imported", "used", "beside"),
    [
        ("import helpers_beside", "helpers_beside.go()", "helpers_beside.py"),
        ("from helpers_beside import go", "go()", "helpers_beside.py"),
        ("from helpers_beside.mod import go", "go()", "helpers_beside/mod.py"),
        ("from helpers_beside.mod import go", "go()", "helpers_beside/__init__.py"),
    ],
)
def test_a_hooks_file_that_uses_the_file_beside_it(
    imported: str,
    used: str,
    beside: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    there = tmp_path / beside
    there.parent.mkdir(exist_ok=True)
    there.write_text("")
    (there.with_name("mod.py") if "/" in beside else there).write_text("def go(): ...\n")
    file = tmp_path / "with_sibling.py"
    file.write_text(textwrap.dedent(WITH_SIBLING).format(imported, used))
    with pytest.raises(HookImportError, match="imports 'helpers_beside', which lies beside it: a hooks file travels"):
        load_hooks(str(file))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        again = load_hooks(str(file))
        pack_hooks([*again, *again])
        pack_hooks(again)  # said once
    finally:
        for name in ("helpers_beside", "helpers_beside.mod"):
            sys.modules.pop(name, None)
    (message,) = caplog.messages
    assert "uses 'helpers_beside', which lies beside it" in message
    assert "Put both into a package" in message


def test_reading_a_pickle_makes_nothing_of_it() -> None:
    class Loud:
        def __reduce__(self) -> Any:
            return (sorted, ("made",))

    names = names_in(dumps([Loud(), {1: {2, 3}}, sys, (len, 4.0), pytest.raises, type("Made", (), {"a": 1})]))
    assert {("builtins", "sorted"), ("builtins", "len"), ("sys", "")} <= names
