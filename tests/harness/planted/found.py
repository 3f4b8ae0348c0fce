"""Explore the modules of this folder, and the table of what came of it."""

from __future__ import annotations

import ast
import contextlib
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks_testing import explore_hooks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from serve_llm_hooks_testing._explore.result import Finding

FOLDER = Path(__file__).parent
PAGE = FOLDER.parents[2] / "docs" / "testing.md"
MODULES = sorted(file.stem for file in FOLDER.glob("*.py") if "\n@hook(" in file.read_text(encoding="utf-8"))
SEEDS = 200
_BEGIN, _END = "<!-- planted:begin -->", "<!-- planted:end -->"


@contextlib.contextmanager
def shared_folder() -> Iterator[Path]:
    """Let the nodes of fake clusters have a shared folder."""
    before = os.environ.get("PLANTED_SHARED")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["PLANTED_SHARED"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["PLANTED_SHARED"]
            else:
                os.environ["PLANTED_SHARED"] = before


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def find(module: str) -> Finding:
    """Return what is found first in a module, with the first seed that shows it."""
    with shared_folder() as folder, contextlib.redirect_stdout(io.StringIO()):
        for seed in range(SEEDS):
            found = explore_hooks(
                f"{__package__}.{module}", model_id="planted", seeds=[seed], check=False, reset=lambda: emptied(folder)
            )
            if found.findings:
                return found.findings[0]
    raise LookupError(f"nothing is found in {module} with {SEEDS} seeds")


def find_all() -> dict[str, Finding]:
    """Return what is found in each module."""
    return {module: find(module) for module in MODULES}


def table(findings: Mapping[str, Finding]) -> str:
    """Return the table for the page."""
    rows = ["| the fault | seeds until it is found | the smallest schedule |", "|---|---|---|"]
    for module, finding in findings.items():
        schedule = _written(finding).replace(f"{__package__}.{module}:", "")
        rows.append(f"| {what(module)} | {finding.seeds[0] + 1} | `{schedule}` |")
    return "\n".join(rows)


def what(module: str) -> str:
    """Return what is wrong with a module, as its docstring says it."""
    text = ast.get_docstring(ast.parse((FOLDER / f"{module}.py").read_text(encoding="utf-8")))
    assert text is not None
    return " ".join(text.split()).rstrip(".")


def with_table(page: str, rows: str) -> str:
    before, _, rest = page.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n{rows}\n{_END}{after}"


def rows_of(page: str) -> str:
    """Return the table that a page has."""
    return page.partition(_BEGIN)[2].partition(_END)[0].strip()


def _written(finding: Finding) -> str:
    """Return the schedule on one line, as the test has it."""
    code = finding.test.partition("schedule=")[2]
    call = next(node for node in ast.walk(ast.parse(finding.test)) if isinstance(node, ast.Call) and _is_schedule(node))
    assert code
    return ast.unparse(call).replace("'", '"')


def _is_schedule(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Name) and node.func.id == "Schedule"
