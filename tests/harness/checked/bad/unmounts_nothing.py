"""Nodes mount volumes and list them; at the end, the replica unmounts what is in the list."""

import logging

from serve_llm_hooks import hook

log = logging.getLogger(__name__)
_mounted = []


@hook("on_before_node_download")
def mount(ctx):
    _mounted.append(f"/mnt/models-of-{ctx.node_id}")
    log.info("mounted %s", _mounted[-1])


@hook("on_shutdown")
def unmount(ctx):
    log.info("%d volumes unmounted: %s", len(_mounted), _mounted)
    _mounted.clear()
