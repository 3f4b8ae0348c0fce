"""Write the table of planted faults into docs/testing.md: how many seeds each takes, and the smallest schedule.

python -m tests.harness.planted
"""

from __future__ import annotations

import sys
from pathlib import Path

from .found import PAGE, find_all, table, with_table


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_table(page, table(find_all())), encoding="utf-8")
    sys.stderr.write(f"{Path(PAGE).name}: written\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
