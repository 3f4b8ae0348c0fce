"""The function of a Ray task on a node. The replica imports this to send it, so what it does is imported there only."""

from __future__ import annotations

from .node_news import EVERY_S


def run_packed_task(data: bytes, limit_s: float, news_key: str = "", news_s: float = EVERY_S) -> bytes:
    """Run a pickled ``NodeTask`` and return a pickled ``NodeReport``. Both are plain data.

    Args:
        data: the task.
        limit_s: after how many seconds the process ends, if it has not done so.
        news_key: the key under which the replica is told what the task waits for; empty: it is not told.
        news_s: how often it is told.
    """
    from .node_process import run

    return run(data, limit_s, news_key, news_s)
