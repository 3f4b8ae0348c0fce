"""``check_hooks`` on modules that count on what does not cross between processes, and on others that only seem to."""

from __future__ import annotations

import importlib
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks import registry
from serve_llm_hooks_testing import check_hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from serve_llm_hooks_testing import HookCheck

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are Linux's")

HERE = Path(__file__).parent / "checked"
BAD = sorted(file.stem for file in (HERE / "bad").glob("[!_]*.py"))
GOOD = sorted(file.stem for file in (HERE / "good").glob("[!_]*.py"))

# What is only noted: a rank that each process counts for itself is told from one that is reported by nothing.
NOTED = {"ranks"}


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], HookCheck]]:
    """Check a module; what its import and its hooks leave in this process is gone afterwards."""
    before = list(registry)
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def check(name: str) -> HookCheck:
        names.append(f"{__package__}.checked.{name}")
        module: Any = importlib.import_module(names[-1])
        return check_hooks(*getattr(module, "HOOKS", [names[-1]]), check=False)

    yield check
    for name in names:
        sys.modules.pop(name, None)
    registry.clear()
    for hook in before:
        registry.add(hook)


def test_there_are_as_many_as_we_say() -> None:
    assert (len(BAD), len(GOOD)) == (24, 20)
    assert set(BAD) > NOTED


@pytest.mark.parametrize("name", [name for name in BAD if name not in NOTED])
def test_what_does_not_cross_is_found(checked: Callable[[str], HookCheck], name: str) -> None:
    assert checked(f"bad.{name}").problems


@pytest.mark.parametrize("name", sorted(NOTED))
def test_what_cannot_be_told_is_noted(checked: Callable[[str], HookCheck], name: str) -> None:
    found = checked(f"bad.{name}")
    assert (found.problems, bool(found.notes)) == ([], True)


@pytest.mark.parametrize("name", GOOD)
def test_who_does_no_wrong_is_not_accused(checked: Callable[[str], HookCheck], name: str) -> None:
    assert checked(f"good.{name}").problems == []


def test_what_fails_only_in_the_tests_process_is_no_problem(module: Callable[[str, str], str]) -> None:
    name = module(
        "once_in_a_process_hooks",
        """
        done = []
        @hook("on_before_node_download")
        def once(ctx):
            if done: raise RuntimeError("twice in one process")
            done.append(ctx.node_id)
        """,
    )
    found = check_hooks(name)
    assert found.problems == []
    (note,) = found.notes
    assert "once failed at on_before_node_download" in note
    assert "only where the replica and all nodes are one process" in note


def test_no_scenario_finds_what_another_one_has_left_in_the_temporary_folder(
    module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (own := tmp_path / "own").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    name = module(
        "leaving_files_hooks",
        """
        import os, tempfile
        @hook("on_after_init")
        def mark(ctx): os.mkdir(os.path.join(tempfile.gettempdir(), "started"))
        """,
    )
    found = check_hooks(name)
    assert (found.problems, found.notes, os.listdir(own)) == ([], [], [])


def test_the_age_of_a_process_is_noted(module: Callable[[str, str], str]) -> None:
    name = module(
        "age_hooks",
        """
        import asyncio, time
        BEGUN_S = time.monotonic()
        @hook("on_before_init")
        async def wait(ctx): await asyncio.sleep(5)
        @hook("on_before_node_download")
        def tell(ctx): ctx.custom_data["age_s"] = round(time.monotonic() - BEGUN_S, 1)
        """,
    )
    found = check_hooks(name)
    assert len(found.notes) == 1
    assert "custom_data['age_s']" in found.notes[0]
    assert str(found).startswith("no problem found in ")
    assert "\nnote: on one node" in str(found)


def test_what_hooks_change_of_the_tests_process_is_put_back(
    module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CHECK_HOOKS_TEST", "before")
    name = module(
        "changing_hooks",
        """
        import os, sys, socket
        @hook("on_before_init")
        def change(ctx):
            os.environ.update(CHECK_HOOKS_TEST="after", CHECK_HOOKS_TEST_2="new")
            sys.path.insert(0, "/nowhere")
            os.chdir("/")
            socket.setdefaulttimeout(5)
        """,
    )
    before = dict(os.environ), [*sys.path], os.getcwd(), socket.getdefaulttimeout()
    check_hooks(name)
    assert (dict(os.environ), [*sys.path], os.getcwd(), socket.getdefaulttimeout()) == before


def test_who_uses_what_a_test_has_replaced_is_not_accused(
    module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module(
        "replaced_hooks",
        """
        def ask_store(): raise ConnectionError("no store here")
        @hook("on_before_init")
        def in_the_replica(ctx): ctx.custom_data["bucket"] = ask_store()
        @hook("on_before_node_download")
        def on_a_node(ctx): ctx.custom_data["index"] = ask_store()
        """,
    )
    monkeypatch.setattr(importlib.import_module(name), "ask_store", lambda: "s3://b")
    assert check_hooks(name).problems == []


def test_elsewhere_than_on_linux_a_note_says_what_is_not_checked(
    module: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module("lonely_hooks", '@hook("on_before_node_download")\ndef one(ctx): pass')
    monkeypatch.setattr(sys, "platform", "win32")
    found = check_hooks(name)
    assert ["only Linux can" in note for note in found.notes] == [True]


def test_a_hook_that_ends_its_process_is_a_problem(module: Callable[[str, str], str]) -> None:
    name = module(
        "ending_its_process_hooks",
        """
        import os
        @hook("on_before_node_download")
        def give_up(ctx): os._exit(3)
        """,
    )
    with pytest.raises(AssertionError, match=r"was lost while model .*: its process exited with code 3"):
        check_hooks(name)


def test_a_failure_that_is_explained_is_one_problem(module: Callable[[str, str], str]) -> None:
    name = module(
        "token_of_the_replica_hooks",
        """
        import os
        @hook("on_before_init")
        def log_in(ctx): os.environ["ACME_TOKEN"] = "t"
        @hook("on_before_node_download")
        def fetch(ctx): os.environ["ACME_TOKEN"]
        """,
    )
    (problem,) = check_hooks(name, check=False).problems
    assert "fetch fails at on_before_node_download when the replica and each node are processes of their own" in problem
    assert "Processes have changed os.environ['ACME_TOKEN']" in problem
