"""Test how messages show foreign objects: whatever these do, as one short line."""

from __future__ import annotations

import time
import traceback
from typing import Any

import pytest

from serve_llm_hooks import Hook, HookRegistry, HookSignatureError, NodeLostError, hook
from serve_llm_hooks._core.messages import counted, describe, is_small, one_line, path_or_type, readable, traceback_of
from serve_llm_hooks._core.options import HookOptions
from serve_llm_hooks._core.snapshot import unchanging
from tests.unit.unreadable import HOSTILE, NoStringError, Unreadable, UnreadableError, deep, shared


@pytest.mark.parametrize("error", [UnreadableError("x"), NoStringError("x"), KeyError(Unreadable())])
def test_an_error_that_cannot_be_read(error: Exception) -> None:
    stands_for = f"<{type(error).__name__}, whose text cannot be read>"
    assert one_line(error) == stands_for
    assert one_line(ExceptionGroup("two", [error, ValueError("plain")])) == (
        f"ExceptionGroup: two (2 sub-exceptions): {stands_for}; ValueError: plain"
    )
    assert type(error).__name__ in traceback_of(error)


@pytest.mark.parametrize("name", HOSTILE)
def test_an_error_of_which_an_attribute_cannot_be_read(name: str) -> None:
    error = HOSTILE[name]()
    assert "the text" in one_line(error)
    assert "the text" in one_line(BaseExceptionGroup("one", [error]))
    assert "the text" in traceback_of(error)
    for shown, text in ((error, "the text"), (chained(error), "behind it")):
        can_be_shown = readable(shown)
        assert text in "".join(traceback.format_exception(can_be_shown))
        assert is_small(can_be_shown)
        if is_small(shown):
            assert can_be_shown is shown


def chained(cause: BaseException) -> BaseException:
    error = ValueError("behind it")
    error.__cause__ = cause
    return error


def test_a_value_that_cannot_be_read() -> None:
    assert describe(Unreadable()).endswith("Unreadable")
    assert describe([Unreadable()]) == "a list"

    def fetch(ctx: Any, *, secret: object) -> None: ...

    bound = Hook(fetch, HookOptions("on_before_init"), {"secret": Unreadable()})
    assert bound.ref.endswith("fetch(secret=…)")
    hook("on_before_init")(fetch)


def test_long_texts_are_cut_in_the_middle() -> None:
    long = one_line(ValueError("begin " + "x" * 10**6 + " end"))
    assert len(long) < 3000
    assert long.startswith("ValueError: begin x")
    assert long.endswith("x end")
    assert len(describe("x" * 10**6)) < 300
    own = NodeLostError("x" * 5000, node_id="n")
    assert "x" * 500 in one_line(own)


class Shouts(str):
    """A string that is none of Python's own."""

    __slots__ = ()

    def split(self, *args: Any) -> Any:
        raise LookupError

    def __format__(self, spec: str) -> str:
        raise LookupError


class ShoutsError(Exception):
    """An exception whose text is such a string."""

    def __str__(self) -> str:
        return Shouts("loud")


def test_a_text_that_is_a_string_of_another_kind() -> None:
    assert one_line(ShoutsError()) == "ShoutsError: loud"


@pytest.mark.parametrize("error", [shared(40), deep(5000)])
def test_groups_are_bounded(error: BaseException) -> None:
    begin_s = time.perf_counter()
    assert not is_small(error)
    line, text = one_line(error), traceback_of(error)
    assert time.perf_counter() - begin_s < 1
    assert line.count("\n") == 0
    assert len(line) < 500
    assert text.endswith(line)


def test_a_shared_sub_group_is_shown_once() -> None:
    assert one_line(shared(2)).count("the innermost") == 1


def test_a_long_chain_of_causes_is_bounded() -> None:
    error: Exception = ValueError("the first")
    for _ in range(500):
        after = ValueError("x" * 10_000)
        after.__context__ = error
        error = after
    assert not is_small(error)
    assert len(traceback_of(error)) < 25_000


def test_what_changes_while_it_is_read_is_read_again() -> None:
    tries = []

    def read() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise RuntimeError("dictionary changed size during iteration")
        return "read"

    assert unchanging(read) == "read"
    with pytest.raises(RuntimeError, match="something else"):
        unchanging(lambda: (_ for _ in ()).throw(RuntimeError("something else")))


def test_our_classes_are_written_as_they_are_imported() -> None:
    registry = HookRegistry()
    assert describe(registry) == "a serve_llm_hooks.HookRegistry"
    assert describe(HookRegistry) == "the class serve_llm_hooks.HookRegistry"
    assert describe([].append) == "the function builtins:list.append"
    assert counted(1, "node") == "1 node"


def test_a_method_written_in_c_has_a_path() -> None:
    with pytest.raises(HookSignatureError, match=r"the function builtins:list\.append, which"):
        HookRegistry().hook("on_after_init")(list[Any]().append)


def test_an_exception_with_a_huge_text_or_notes_that_cannot_be_read_has_no_traceback_in_the_log() -> None:
    class Notes(ValueError):
        def __getattribute__(self, name: str) -> Any:
            if name == "__notes__":
                raise RuntimeError
            return super().__getattribute__(name)

    assert is_small(ValueError("short"))
    assert not is_small(ValueError("x" * 10**6))
    assert not is_small(Notes("short"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:p@ss/w?rd@host/x", "https://…@host/x"),
        ("see https://token@host, and s3://u:pw@b", "see https://…@host, and s3://…@b"),
        ("abfss://container@account.dfs.core.windows.net/m", "abfss://container@account.dfs.core.windows.net/m"),
        ("abfss://container:pw@account/m", "abfss://…@account/m"),
        ("s3://b/model@v1?region=x", "s3://b/model@v1?…"),
        ("pkg.mod:name", "pkg.mod:name"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert describe(url) == repr(shown)


def test_a_long_url_shows_no_password_either() -> None:
    assert "secret" not in describe(f"https://me:{'secret' * 100}@host")


@pytest.mark.parametrize("path", ["acme.hooks", "pkg.mod:name", "hooks/on_start.py", "~/hooks", "C:\\hooks.py"])
def test_a_path_in_the_place_of_a_list_is_shown(path: str) -> None:
    assert path_or_type(path) == repr(path)


@pytest.mark.parametrize("text", ["", "hf_word", "A=1", "https://host/x", "Bearer x", "u:pw@host", "a\nb"])
def test_another_text_in_the_place_of_a_list_is_not_shown(text: str) -> None:
    assert path_or_type(text) == "a str"
