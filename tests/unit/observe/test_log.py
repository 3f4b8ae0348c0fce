"""Test where the processes that Ray starts log to. (On a real Ray: ``tests/integration/test_log.py``.)"""

from __future__ import annotations

import logging
from logging.handlers import MemoryHandler
from typing import TYPE_CHECKING, Any

import pytest

from serve_llm_hooks.ray import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = logging.getLogger("serve_llm_hooks")
SERVES = logging.getLogger("ray.serve")
ROOT = logging.getLogger()


@pytest.fixture(autouse=True)
def logging_as_in_a_new_process_of_rays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nobody has configured these loggers; they are afterwards as they were before."""
    monkeypatch.setattr(log, "_ray_started_this_process", lambda: True)
    monkeypatch.setattr(log, "_has_logged", False)
    for logger in (OURS, SERVES, ROOT):
        monkeypatch.setattr(logger, "handlers", [])
    for logger in (OURS, SERVES):
        monkeypatch.setattr(logger, "propagate", logger is OURS)
    levels = [(logger, logger.level) for logger in (OURS, SERVES, ROOT)]
    OURS.setLevel(logging.NOTSET)
    SERVES.setLevel(logging.INFO)
    yield
    for logger, level in levels:
        logger.setLevel(level)


def serves_handler(file: Path) -> logging.Handler:
    """Return what Serve gives its logger in a replica; it keeps a thousand lines back, as it does under load."""
    target = logging.FileHandler(file)
    target.setFormatter(logging.Formatter("serve: %(message)s"))
    return MemoryHandler(1000, target=target)


def test_in_a_replica_lines_are_in_serves_file_at_once_also_after_serve_has_made_another(tmp_path: Path) -> None:
    SERVES.handlers = [serves_handler(tmp_path / "first")]
    log.show_log()
    logging.getLogger("serve_llm_hooks.acme").info("before")
    assert (tmp_path / "first").read_text() == "serve: before\n"
    SERVES.handlers = [serves_handler(tmp_path / "second")]
    log.show_log()
    OURS.warning("after")
    assert (tmp_path / "first").read_text() == "serve: before\n"
    assert (tmp_path / "second").read_text() == "serve: after\n"


def test_serves_level_is_kept(tmp_path: Path) -> None:
    SERVES.handlers = [serves_handler(tmp_path / "log")]
    SERVES.setLevel(logging.WARNING)
    log.show_log()
    OURS.info("unwanted")
    OURS.warning("wanted")
    assert (tmp_path / "log").read_text() == "serve: wanted\n"


@pytest.mark.parametrize("handlers", [[], [logging.StreamHandler()], [MemoryHandler(1)]])
def test_where_serve_writes_no_file_it_is_printed(
    handlers: list[logging.Handler], capsys: pytest.CaptureFixture[str]
) -> None:
    SERVES.handlers = handlers
    log.show_log()
    OURS.info("said")
    printed = capsys.readouterr().err
    assert printed.startswith("INFO ")
    assert printed.endswith(" serve_llm_hooks -- said\n")


def test_a_logger_that_somebody_has_configured_is_left_alone(tmp_path: Path) -> None:
    SERVES.handlers = [serves_handler(tmp_path / "log")]
    own = OURS.handlers = [logging.NullHandler()]
    log.show_log()
    OURS.warning("not in Serve's file")
    assert OURS.handlers is own
    assert OURS.propagate
    assert (tmp_path / "log").read_text() == ""


class Run:
    """A start, of which only its hooks are asked for."""

    def __init__(self, *hooks: str) -> None:
        self.start = self.selection = self
        self.hooks = hooks


@pytest.mark.parametrize("where", ["root", "handler"])
def test_a_silenced_root_is_told_once_where_there_are_hooks(where: str, capsys: pytest.CaptureFixture[str]) -> None:
    log.show_log()
    no_hooks: Any = Run()
    run: Any = Run("a hook")
    ROOT.handlers = [logging.StreamHandler()]
    ROOT.setLevel(logging.INFO)
    log.log_if_root_is_silenced(run)
    assert capsys.readouterr().err == ""
    (ROOT if where == "root" else ROOT.handlers[0]).setLevel(logging.ERROR)
    log.log_if_root_is_silenced(no_hooks)
    assert capsys.readouterr().err == ""
    log.log_if_root_is_silenced(run)
    log.log_if_root_is_silenced(run)
    (line,) = capsys.readouterr().err.splitlines()
    assert "the root logger of this process shows nothing below ERROR since" in line
    assert line.endswith("is seen if they use logging.getLogger('serve_llm_hooks.<yours>')")


def test_a_root_without_handlers_shows_warnings() -> None:
    run: Any = Run("a hook")
    ROOT.setLevel(logging.WARNING)
    log.log_if_root_is_silenced(run)
    assert not log._has_logged
