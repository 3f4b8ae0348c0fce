"""Write the tables in the docs that are made from the code, or say that one is stale.

    python scripts/docs_tables.py                # write them
    python scripts/docs_tables.py --check        # exit with 1 if that would change anything
    python scripts/docs_tables.py --check FILE…  # in these files only

A table stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->`; what is between the two is replaced.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from serve_llm_hooks import HOOK_POINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parent.parent
FILES = ("README.md", "docs/customization.md", "docs/hooks.md")


def hook_points() -> str:
    """The table of hook points, in the order in which they run."""
    rows = ["| hook point | runs | a veto skips | for |", "|---|---|---|---|"]
    rows += [f"| `{row.name}` | {row.runs} | {row.veto or '–'} | {row.purpose} |" for row in HOOK_POINTS.values()]
    return "\n".join(rows)


def phases() -> str:
    """The same, with the phases."""
    rows = ["| method, or `@hook(...)` | phase | runs |", "|---|---|---|"]
    rows += [
        f"| `{row.name}` | {f'`{row.phase}`' if row.phase else '–'} | {row.runs} |" for row in HOOK_POINTS.values()
    ]
    return "\n".join(rows)


TABLES: dict[str, Callable[[], str]] = {"hook-points": hook_points, "phases": phases}


def renew(text: str, tables: Mapping[str, Callable[[], str]] = TABLES) -> str:
    """A page with its tables made anew.

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
