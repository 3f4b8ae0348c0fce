"""Sets logging up once in each process, whoever comes first."""

import logging

from serve_llm_hooks import hook

_done = False
log = logging.getLogger("acme.startup")


def set_up():
    global _done
    if _done:
        log.info("logging is set up already")
        return
    log.setLevel(logging.INFO)
    logging.getLogger("botocore").setLevel(logging.ERROR)
    log.info("logging is set up now")
    _done = True


@hook("on_before_init")
def in_the_replica(ctx):
    set_up()


@hook("on_before_node_download")
def on_a_node(ctx):
    set_up()
    ctx.custom_data["level"] = logging.getLogger("botocore").level
