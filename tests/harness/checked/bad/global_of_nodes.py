"""The classic: a dict that nodes fill and the replica reads."""

import logging

from serve_llm_hooks import hook

log = logging.getLogger("acme.hooks")
gpu_names = {}


def _probe():
    return "H100"


@hook("on_before_node_download")
def probe(ctx):
    gpu_names[ctx.node_id] = _probe()


@hook("on_after_download")
def report(ctx):
    log.info("GPUs: %s", ", ".join(f"{node}={name}" for node, name in sorted(gpu_names.items())))
