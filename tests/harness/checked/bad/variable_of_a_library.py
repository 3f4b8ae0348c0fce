"""Sets a proxy in the replica's environment; a library reads it on nodes."""

import os
import urllib.request

from serve_llm_hooks import hook


@hook("on_before_init")
def use_proxy(ctx):
    os.environ["HTTPS_PROXY"] = "http://proxy.example.com:3128"


@hook("on_before_node_download")
def check_connection(ctx):
    proxies = urllib.request.getproxies()
    if "https" not in proxies:
        raise ConnectionError("this network is reached by a proxy only")
