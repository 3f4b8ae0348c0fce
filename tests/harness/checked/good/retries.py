"""Tries again with a longer pause each time, and gives up in words."""

import time

from serve_llm_hooks import hook

_attempts = {}


def with_retries(name, work, times=4):
    for attempt in range(times):
        _attempts[name] = attempt + 1
        try:
            return work(attempt)
        except ConnectionError:
            time.sleep(2**attempt)
    raise TimeoutError(f"{name}: given up")


def _unsteady(attempt):
    if attempt < 2:
        raise ConnectionError("reset by peer")
    return "the answer"


@hook("on_before_init", timeout_s=60)
def register(ctx):
    ctx.custom_data["answer"] = with_retries("register", _unsteady)


@hook("on_before_node_download", timeout_s=60)
def mount(ctx):
    with_retries("mount", _unsteady)
    ctx.custom_data["attempts"] = _attempts["mount"]
