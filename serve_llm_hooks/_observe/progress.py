"""``Progress``: while a start waits, a line in the log every half minute says for what."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .._core.node import Node


logger: logging.Logger = logging.getLogger("serve_llm_hooks")

PROGRESS_S = 30.0
"""Seconds between two lines."""


class Progress:
    """Log what one start is waiting for.

    In a thread of its own, and not a task of the event loop: a starting engine may block the loop, and on a fake
    cluster the loop's clock jumps over every wait.

    Args:
        model_id: the model that starts.
        node: the node whose part of the start this is; ``None`` for the replica's.
        more: returns what a line says besides; called for each.
        news: returns what there is to tell of others, a line each; called with each line. In the replica: of nodes.

    Example:
        >>> with Progress("llama-2-7b") as progress, progress.waiting_for("its placement group"):
        ...     pass
    """

    def __init__(
        self,
        model_id: str,
        *,
        node: Node | None = None,
        more: Callable[[], str] | None = None,
        news: Callable[[], Sequence[str]] | None = None,
    ) -> None:
        self._who = f"model {model_id!r}" + ("" if node is None else f" on {node}")
        self._more = more
        self._news = news
        self._waits: list[tuple[float, str | Callable[[], str]]] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._log, name="serve-llm-hooks progress", daemon=True)

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.end()

    def end(self) -> None:
        """Log nothing more, also where the ``with`` block is never left: in a process that a fake has killed."""
        self._over.set()
        self._thread.join()

    @contextmanager
    def waiting_for(self, what: str | Callable[[], str]) -> Iterator[None]:
        """Say what is waited for inside the ``with`` block. A function is called each time a line is written."""
        self._waits.append((time.monotonic(), what))
        try:
            yield
        finally:
            self._waits.pop()

    @property
    def now(self) -> str:
        """The thing that is waited for at the moment, in words; empty if nothing is."""
        what = next((what for _, what in self._waits[-1:]), "")
        return what if isinstance(what, str) else what()

    def _log(self) -> None:
        while not self._over.wait(PROGRESS_S):
            for since_s, what in self._waits[-1:]:
                shown = what if isinstance(what, str) else what()
                waited_s = time.monotonic() - since_s
                more = "" if self._more is None else self._more()
                logger.info("%s: waiting for %s (%.0f s so far%s)", self._who, shown, waited_s, more)
                for line in () if self._news is None else self._news():
                    logger.info("%s: %s", self._who, line)
