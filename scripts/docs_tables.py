"""Write the tables in the docs that are made from the code, or say that one is stale.

    python scripts/docs_tables.py                # write them
    python scripts/docs_tables.py --check        # exit with 1 if that would change anything
    python scripts/docs_tables.py --check FILE…  # in these files only

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; what is between the two is replaced.
"""

from __future__ import annotations

import argparse
import ast
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
TESTS = ROOT / "tests"
FILES = ("README.md", "docs/customization.md", "docs/hooks.md", "docs/reliability.md")


def hook_points() -> str:
    """Return the table of hook points, in the order in which they run."""
    rows = ["| hook point | runs | a veto skips | for |", "|---|---|---|---|"]
    rows += [f"| `{row.name}` | {row.runs} | {row.veto or '–'} | {row.purpose} |" for row in HOOK_POINTS.values()]
    return "\n".join(rows)


def phases() -> str:
    """Return the table of phases and their hook points."""
    rows = ["| method, or `@hook(...)` | phase | runs |", "|---|---|---|"]
    rows += [
        f"| `{row.name}` | {f'`{row.phase}`' if row.phase else '–'} | {row.runs} |" for row in HOOK_POINTS.values()
    ]
    return "\n".join(rows)


@dataclass
class Fault:
    """A row of docs/reliability.md: what breaks, what is promised, and the tests that show it."""

    what: str
    promise: str = ""
    tests: list[str] = field(default_factory=list)


def faults(tests: Path = TESTS) -> str:
    """Return the table of faults, from the markers of the tests that show them.

    Args:
        tests: the folder of the tests. They are read, not imported: that would need Ray.

    Raises:
        ValueError: a marker that cannot be read, a fault without a promise, or with two.
    """
    rows = ["| what breaks | what is promised | shown by |", "|---|---|---|"]
    for fault in _faults(tests).values():
        if not fault.promise:
            raise ValueError(f"no test of the fault {fault.what!r} says promise=...")
        rows.append(f"| {fault.what} | {fault.promise} | {', '.join(fault.tests)} |")
    return "\n".join(rows)


def _faults(tests: Path) -> dict[str, Fault]:
    found: dict[str, Fault] = {}
    # The suite of faults first, so that the table is in its order.
    files = sorted(tests.rglob("test_*.py"), key=lambda file: (file.name != "test_faults.py", file))
    for file in files:
        for test, what, promise in _markers(file):
            fault = found.setdefault(what, Fault(what))
            if promise and fault.promise:
                raise ValueError(f"{file}: {test} promises once more what is promised of {what!r}; leave promise= out")
            fault.promise = fault.promise or promise
            fault.tests.append(f"[`{test}`](../{file.relative_to(tests.parent).as_posix()})")
    return found


def _markers(file: Path) -> Iterator[tuple[str, str, str]]:
    """Return a file's tests with `@pytest.mark.fault`: name, fault and promise."""
    text = file.read_text(encoding="utf-8")
    if "pytest.mark.fault(" not in text:
        return
    for test in ast.walk(ast.parse(text)):
        if not isinstance(test, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for mark in test.decorator_list:
            if not (isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault"):
                continue
            try:
                (what,) = [ast.literal_eval(argument) for argument in mark.args]
                given = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in mark.keywords}
            except ValueError:
                raise ValueError(f"{file}:{mark.lineno}: the marker fault takes one text, and promise=a text") from None
            yield test.name, what, given.get("promise", "")


TABLES: dict[str, Callable[[], str]] = {"hook-points": hook_points, "phases": phases, "faults": faults}


def renew(text: str, tables: Mapping[str, Callable[[], str]] = TABLES) -> str:
    """Return a page with its tables made anew.

    Args:
        text: the page.
        tables: what makes them, by name.

    Raises:
        ValueError: a begin without its end, or the other way round.
    """
    for name, table in tables.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if text.count(begin) != text.count(end) or text.count(begin) > 1:
            raise ValueError(f"{begin} and {end} must stand there once each, or not at all")
        if begin in text:
            before, _, rest = text.partition(begin)
            _, found, after = rest.partition(end)
            if not found:
                raise ValueError(f"{end} stands before {begin}")
            text = f"{before}{begin}\n{table()}\n{end}{after}"
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; gives the exit status."""
    parser = argparse.ArgumentParser(description="Write the tables in the docs that are made from the code.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table is stale")
    parser.add_argument("files", nargs="*", type=Path, default=[ROOT / name for name in FILES])
    options = parser.parse_args(arguments)
    stale = False
    for file in options.files:
        text = file.read_text(encoding="utf-8")
        try:
            wanted = renew(text)
        except ValueError as error:
            sys.stderr.write(f"{file}: {error}\n")
            return 2
        if wanted == text:
            continue
        if options.check:
            stale = True
            sys.stderr.write(f"{file}: its tables are stale; run `python scripts/docs_tables.py`\n")
        else:
            file.write_text(wanted, encoding="utf-8")
            sys.stderr.write(f"{file}: written\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
