"""The examples in docs/cli.md: each command prints what the page shows."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs_blocks import ROOT, blocks_of

from .test_app import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.docs_blocks import Block

    from .conftest import Answer

    Cli = Callable[..., Answer]

PAGE = ROOT / "docs" / "cli.md"
EXAMPLES = blocks_of(PAGE, "console")


@pytest.fixture
def pages_files(tmp_path: Path) -> None:
    """The files that the page shows, where commands run."""
    for block in [*blocks_of(PAGE, "python"), *blocks_of(PAGE, "yaml")]:
        if block.file is not None:
            file = tmp_path / block.file
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text)


def run(block: Block, cli: Cli) -> list[str]:
    """Run an example; return the lines that it has printed, none where they go into a file."""
    words = shlex.split(block.text.partition("\n")[0].removeprefix("$ serve-llm-hooks "))
    *words, arrow, file = words if ">" in words else [*words, "", ""]
    answer = cli(*words)
    if arrow:
        Path(file).write_text(answer.out)
        return []
    return answer.out.splitlines()


@pytest.mark.usefixtures("pages_files")
def test_each_example_prints_what_the_page_shows(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    for block in EXAMPLES:
        assert run(block, cli) == block.text.splitlines()[1:], f"{PAGE}:{block.line}"


def test_each_command_has_an_example() -> None:
    assert {block.text.split()[2] for block in EXAMPLES} == set(COMMANDS)
