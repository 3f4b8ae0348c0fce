"""Run the Python in the docs, page by page.

A page's blocks run from top to bottom in one namespace, as one module. Two HTML comments, each on the line above a
block, say what else a block is:

- ``<!-- file: my_company/llm_hooks.py -->``: a file; it can be imported by the blocks after it
- ``<!-- needs: ray -->``: it imports Ray Serve LLM, so it runs in ``tests/integration`` only
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from serve_llm_hooks import registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").glob("*.md")])

_COMMENT = re.compile(r"<!-- (file|needs): (\S+) -->")
_FENCE = re.compile(r"```(\w*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int  # of its first line of code
    language: str
    text: str
    file: str | None
    needs: str | None


def blocks_of(page: Path, language: str) -> list[Block]:
    """The blocks of a page in one language, from top to bottom."""
    return [block for block in _blocks(page) if block.language == language]


def _blocks(page: Path) -> Iterator[Block]:
    comments: dict[str, str] = {}
    opened: tuple[int, str] | None = None
    lines: list[str] = []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = _FENCE.match(line)
        if opened is None:
            if comment := _COMMENT.fullmatch(line):
                comments[comment[1]] = comment[2]
            elif fence:
                opened, lines = (number + 1, fence[1]), []
            elif line:
                comments = {}
        elif fence and not fence[1]:
            yield Block(page, *opened, "\n".join(lines) + "\n", comments.get("file"), comments.get("needs"))
            opened, comments = None, {}
        else:
            lines.append(line)
    if opened is not None:
        raise ValueError(f"{page}:{opened[0]}: the block is not closed")


def run_page(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fixture: Callable[[str], Any], *, ray: bool
) -> None:
    """Run a page's blocks, and then the tests that they define; errors show the page's own lines.

    Args:
        page: the page.
        tmp_path: where its files go.
        monkeypatch: undoes what must be undone.
        fixture: gives a fixture by its name, for tests that take one.
        ray: whether blocks that need Ray run too.
    """
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    registered = list(registry)
    module = types.ModuleType(f"docs_{page.stem}")
    try:
        for block in blocks_of(page, "python"):
            if block.needs is not None and not ray:
                continue
            if block.file is not None:
                file = tmp_path / block.file
                file.parent.mkdir(parents=True, exist_ok=True)
                # Empty lines before it, so that errors show the page's line numbers.
                file.write_text("\n" * (block.line - 1) + block.text, encoding="utf-8")
                importlib.invalidate_caches()
                if file.suffix == ".py" and file.parent.name.isidentifier():
                    importlib.import_module(".".join(file.relative_to(tmp_path).with_suffix("").parts))
                continue
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
            exec(code, vars(module))
        for name, function in list(vars(module).items()):
            if name.startswith("test_") and inspect.isfunction(function):
                function(**{parameter: fixture(parameter) for parameter in inspect.signature(function).parameters})
    finally:
        registry.clear()
        for hook in registered:
            registry.add(hook)
        for name in set(sys.modules) - known:
            # A package of files without an __init__.py has no file, only a path.
            where = getattr(sys.modules[name], "__file__", None) or list(getattr(sys.modules[name], "__path__", ()))
            if str(tmp_path) in str(where):
                del sys.modules[name]
