"""A lock and a total of what this process has fetched, from a few threads."""

import threading
from concurrent.futures import ThreadPoolExecutor

from serve_llm_hooks import hook

_lock = threading.Lock()
_fetched = []


def _fetch(name):
    with _lock:
        _fetched.append(name)
    return len(name)


@hook("on_before_download")
def fetch_configs(ctx):
    with ThreadPoolExecutor(2) as pool:
        ctx.custom_data["config_bytes"] = sum(pool.map(_fetch, ["config.json", "generation_config.json"]))


@hook("on_before_node_download")
def fetch_tokenizer(ctx):
    with ThreadPoolExecutor(4) as pool:
        ctx.custom_data["tokenizer_bytes"] = sum(pool.map(_fetch, ["tokenizer.json", "vocab.json", "merges.txt"]))
