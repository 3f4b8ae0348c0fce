"""``Refused``: there is no answer, and why. Errors of hooks with their author's own frames, and no others."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

import serve_llm_hooks
import serve_llm_hooks_testing
from serve_llm_hooks import HookError, HookImportError, ServeLLMHooksError

from .output import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD_ANSWER = 1
NO_ANSWER = 2

# What a config may be refused with, by us and by pydantic (whose error is a ValueError).
CONFIG_ERRORS = (ServeLLMHooksError, ImportError, AttributeError, TypeError, ValueError)

# Where frames are nobody's own: this library, its harness, and the standard library that called the author's code.
_NOT_THE_AUTHORS = tuple(
    str(Path(file).parent) for file in (serve_llm_hooks.__file__, serve_llm_hooks_testing.__file__, traceback.__file__)
)
_SHOWN_FRAMES = 5


class Refused(Exception):
    """There is no answer. The message says what was wrong, where, and what to do."""


@contextmanager
def told() -> Iterator[None]:
    """Say on stderr why there is no answer, and exit.

    Raises:
        typer.Exit: there is none.
    """
    try:
        yield
    except Refused as error:
        typer.echo(f"serve-llm-hooks: {plain(str(error))}", err=True)
        raise typer.Exit(NO_ANSWER) from None


def text_of(error: BaseException) -> str:
    """Return an error's message; of a module or a hook that fails, with the author's own frames."""
    text, cause = str(error), error.__cause__
    if not isinstance(error, HookImportError | HookError) or cause is None:
        return text
    frames = [frame for frame in traceback.extract_tb(cause.__traceback__) if _is_the_authors(frame.filename)]
    shown = "".join(traceback.format_list(frames[-_SHOWN_FRAMES:])).rstrip()
    return f"{text}\n{shown}" if shown else text


def _is_the_authors(file: str) -> bool:
    return not file.startswith(("<frozen", *_NOT_THE_AUTHORS))
