"""Nodes put what they measure into a queue; the replica empties it."""

import queue

from serve_llm_hooks import hook

measured = queue.SimpleQueue()


@hook("on_after_node_download")
def measure(ctx):
    measured.put((ctx.node_id, 1.5))


@hook("on_after_download")
def collect(ctx):
    slowest = 0.0
    while not measured.empty():
        slowest = max(slowest, measured.get()[1])
    ctx.custom_data["slowest_s"] = slowest
