"""Write to the terminal, to a pipe, or as JSON."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager, redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, TextIO

import typer
from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

NARROWEST = 20
_STDOUT, _STDERR = 1, 2  # file descriptors, which subprocesses inherit


class Screen:
    """The output of a command: lines that are wrapped to the terminal's width, and not at all in a pipe.

    Attributes:
        width: the columns that there are; ``None`` in a pipe.
    """

    def __init__(self) -> None:
        """Look at where the output goes."""
        self._console = Console(highlight=False, markup=False, emoji=False)
        is_piped = not (self._console.is_terminal or os.environ.get("COLUMNS"))
        self.width: int | None = None if is_piped else max(NARROWEST, self._console.width)

    def line(self, *parts: str | tuple[str, str], indent: int = 0) -> None:
        """Write a line.

        Args:
            *parts: its texts; a pair is a text and its style.
            indent: the columns before it, and before what does not fit into one line.
        """
        text = Text()
        for part in parts:
            words, style = part if isinstance(part, tuple) else (part, "")
            text.append(plain(words), style)
        for one in text.split("\n", allow_blank=True):
            deeper = indent + len(one.plain) - len(one.plain.lstrip(" "))
            one = one[deeper - indent :]
            for row in [one] if self.width is None else one.wrap(self._console, max(10, self.width - deeper)):
                row.rstrip()
                self._console.print(Text(" " * deeper) + row, soft_wrap=True)

    def code(self, text: str, *, indent: int = 0) -> None:
        """Write lines that are copied from here: none is wrapped, since that would break them."""
        for line in plain(text).split("\n"):
            self._console.print(Text(" " * indent + line if line else ""), soft_wrap=True)

    def blank(self) -> None:
        """Write an empty line."""
        self._console.print()


def write_json(value: Mapping[str, Any]) -> None:
    """Write a document for programs."""
    typer.echo(json.dumps(value, indent=2))


@contextmanager
def printed_on_stderr() -> Iterator[None]:
    """Redirect stdout to stderr in the ``with`` block, for Python, for extensions in C and for subprocesses."""
    own = [stream for stream in (sys.stdout, sys.__stdout__) if stream is not None]
    _flush(own)
    # Without it stdout was closed when Python began, and the descriptor may be any file's.
    kept = None if sys.__stdout__ is None else os.dup(_STDOUT)
    try:
        if kept is not None:
            with suppress(OSError):  # stderr is closed
                os.dup2(_STDERR, _STDOUT)
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _flush(own)  # a hook may have kept the stream, or have taken it from `sys.__stdout__`
        if kept is not None:
            os.dup2(kept, _STDOUT)
            os.close(kept)


def _flush(streams: Iterable[TextIO]) -> None:
    for stream in streams:
        with suppress(OSError, ValueError):  # it is closed
            stream.flush()


def plain(text: str) -> str:
    r"""Return a text without what a terminal would obey: it may come out of a file, or from a hook.

    Example:
        >>> plain("red: \x1b[31m")
        'red: \\x1b[31m'
    """
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
