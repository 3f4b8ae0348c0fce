"""Let Python's garbage collector nearly rest while Ray Serve LLM and vLLM are imported: that takes a fifth less time.

They make 700,000 objects that stay. The collector walks through all of them, ten times, and frees a few hundred.
"""

from __future__ import annotations

import gc
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SELDOM = (100_000, 50, 1000)
_UNUSED_S = 300.0  # how long it rests for a start that may never come: an ingress, or a router, has none
_before: tuple[int, int, int] | None = None
_seldom = _SELDOM
_unused: threading.Timer | None = None


def begin() -> None:
    """Let the collector run seldom from here on; it is not switched off, so nothing can fill the memory.

    It ends by itself after some minutes.
    """
    global _before, _seldom, _unused
    if _before is None and gc.isenabled():
        _before = first, second, third = gc.get_threshold()
        # Somebody may let it run even more seldom: Ray Serve has a variable for it.
        _seldom = max(first, _SELDOM[0]), max(second, _SELDOM[1]), max(third, _SELDOM[2])
        gc.set_threshold(*_seldom)
        _unused = threading.Timer(_UNUSED_S, end)
        _unused.daemon = True
        _unused.start()


def end() -> None:
    """Let the collector run as before, without walking through what has been made until now."""
    global _before, _unused
    before, _before = _before, None
    unused, _unused = _unused, None
    if unused is not None:
        unused.cancel()
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
