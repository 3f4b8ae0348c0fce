"""The command line ``serve-llm-hooks``, which needs the extra ``cli``. It imports only what users can import."""

from __future__ import annotations

import sys
from io import TextIOWrapper


def main() -> None:
    """Run the command line; exit with 2 and say what to install where it has not what it needs."""
    try:
        from .app import app
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        if missing not in ("typer", "rich", "yaml"):
            raise
        sys.stderr.write(
            f"serve-llm-hooks needs {missing}, which is not installed: pip install 'serve-llm-hooks[cli]'\n"
        )
        sys.exit(2)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode shows other bars, and no traceback
    app(prog_name="serve-llm-hooks")
