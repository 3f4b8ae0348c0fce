"""A client that each process makes when it first needs one."""

import logging

from serve_llm_hooks import hook

log = logging.getLogger(__name__)
_client = None


class Client:
    def __init__(self):
        self.calls = 0

    def get(self, key):
        self.calls += 1
        return f"value of {key}"


def client():
    global _client
    if _client is None:
        log.info("connecting to the store")
        _client = Client()
    else:
        log.debug("the connection is used again")
    return _client


@hook("on_before_init")
def look_up(ctx):
    ctx.custom_data["bucket"] = client().get("bucket")


@hook("on_before_node_download")
def fetch(ctx):
    ctx.custom_data["index"] = client().get(f"index-of-{ctx.custom_data['bucket']}")


@hook("on_after_download")
def done(ctx):
    client().get("done")
