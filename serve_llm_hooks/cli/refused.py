"""``Refused``: there is no answer, and why. Errors of hooks with their author's own frames, and no others."""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from serve_llm_hooks import HookImportError, ServeLLMHooksError

from .output import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD_ANSWER = 1
NO_ANSWER = 2

# What a config may be refused with, by us and by pydantic (whose error is a ValueError).
CONFIG_ERRORS = (ServeLLMHooksError, ImportError, AttributeError, TypeError, ValueError)

_OURS = str(Path(__file__).parents[1])
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
    """Return an error's message; of a module that fails while it is imported, the author's frames too."""
    text = str(error)
    cause = error.__cause__
    if not isinstance(error, HookImportError) or cause is None:
        return text
    frames = [
        frame
        for frame in traceback.extract_tb(cause.__traceback__)
        if not frame.filename.startswith((_OURS, "<frozen")) and "importlib" not in Path(frame.filename).parts
    ]
    if not frames:
        return text
    shown = traceback.format_list(frames[-_SHOWN_FRAMES:])
    return "\n".join([text, *"".join(shown).rstrip().splitlines()])
