"""Put names and errors into messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import ServeLLMHooksError

if TYPE_CHECKING:
    from collections.abc import Iterable


_SHOWN_ERRORS = 3  # an exception group names at most this many of its errors


def did_you_mean(name: object, choices: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the nearest of ``choices``, or an empty string when none is near.

    Example:
        >>> did_you_mean("modle_id", ["model_id", "order"])
        " (did you mean 'model_id'?)"
    """
    from difflib import get_close_matches  # only a mistake pays for this import

    near = get_close_matches(str(name), list(choices), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def one_line(error: BaseException) -> str:
    """Return an exception as ``Type: message``, on one line."""
    text = " ".join(str(error).split())
    if isinstance(error, BaseExceptionGroup) and not isinstance(error, ServeLLMHooksError):  # ours name their errors
        text += ": " + "; ".join(one_line(each) for each in error.exceptions[:_SHOWN_ERRORS])
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind
