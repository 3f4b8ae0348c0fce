"""``Refused``: there is no answer, and why. Errors of hooks with their author's own frames, and no others."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from serve_llm_hooks import ServeLLMHooksError
from serve_llm_hooks_testing.frames import frames_of

from .output import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

BAD_ANSWER = 1
NO_ANSWER = 2

# What a config may be refused with, by us and by pydantic (whose error is a ValueError).
CONFIG_ERRORS = (ServeLLMHooksError, ImportError, AttributeError, TypeError, ValueError)


class Refused(Exception):
    """There is no answer. The message says what was wrong, where, and what to do."""


@contextmanager
def exit_if_refused() -> Iterator[None]:
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
    frames = frames_of(error)
    return f"{error}\n{frames}" if frames else str(error)
