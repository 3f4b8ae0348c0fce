"""Read what a thread that a hook left behind may still be changing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from .messages import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

ResultT = TypeVar("ResultT")

_TRIES = 20
_PAUSE_S = 0.001  # grows by as much with each try


def unchanging(read: Callable[[], ResultT]) -> ResultT:
    """Return what ``read`` returns; call it again when something that it iterates over changes meanwhile.

    Example:
        >>> unchanging(lambda: list({"a": 1}.items()))
        [('a', 1)]
    """
    for tried in range(1, _TRIES):
        try:
            return read()
        except RuntimeError as error:
            if "during iteration" not in text_of(error):  # as Python says it of dicts, sets and deques
                raise
        time.sleep(tried * _PAUSE_S)
    return read()
