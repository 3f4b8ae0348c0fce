"""``NodeNews``: what tasks on nodes wait for and have written, told to the replica by Ray's key-value store.

A node's process tells every few seconds, from a thread of its own. The replica looks only when it writes a line.
"""

from __future__ import annotations

import contextlib
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from . import key_value_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._core.node import Node
    from .._node.task import NodeTask


EVERY_S = 10.0
"""Seconds between what a node tells; shorter tasks tell nothing."""

_MOST = 8  # nodes that are told of; a line each


class NodeNews:
    """The replica's side: the tasks that are running."""

    def __init__(self) -> None:
        """Begin without any."""
        self._running: dict[int, tuple[str, Node]] = {}

    def expect(self, task: NodeTask) -> tuple[str, float]:
        """Return the key under which a task is to tell, and how often."""
        key = f"news-{os.urandom(16).hex()}"
        self._running[id(task)] = (key, task.node)
        return key, EVERY_S

    def forget(self, task: NodeTask) -> None:
        """Expect no more of a task, which is over. Its process has taken away what it told, unless it was killed."""
        self._running.pop(id(task), None)

    def lines(self) -> list[str]:
        """Return what running tasks have told last, with their nodes. Called in any thread; never fails."""
        if not key_value_store.is_connected():
            return []
        found: list[str] = []
        for key, node in list(self._running.values()):
            with contextlib.suppress(Exception):  # Ray's own, of any kind: a line of the log is not worth a start
                if said := key_value_store.get(key):
                    found.append(f"{node}: {said.decode()}")
        more = [f"and {len(found) - _MOST} nodes more"] if len(found) > _MOST else []
        return found[:_MOST] + more


@contextmanager
def telling(key: str, every_s: float, now: Callable[[], str]) -> Iterator[None]:
    """Tell what ``now`` returns, every few seconds, while the ``with`` block goes on. Nothing of this can end a task.

    Args:
        key: where the replica looks; without one, nobody is told.
        every_s: how often.
        now: returns what is to be told.
    """
    if not key:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_tell, args=(key, every_s, now, over), name="serve-llm-hooks news", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(1.0)  # what it tells may hang with Ray's store


def _tell(key: str, every_s: float, now: Callable[[], str], over: threading.Event) -> None:
    told = False
    while not over.wait(every_s):
        with contextlib.suppress(Exception):
            if key_value_store.is_connected() and (said := now()):
                key_value_store.put(key, said.encode())
                told = True
    if told:
        with contextlib.suppress(Exception):
            key_value_store.delete(key)
