"""Tells a registry every few seconds that the start goes on, from a thread that ends with it."""

import threading

from serve_llm_hooks import hook

_stop = threading.Event()
_thread = None


def _beat():
    while not _stop.wait(5):
        print("still starting")


@hook("on_before_init")
def begin(ctx):
    global _thread
    _stop.clear()
    _thread = threading.Thread(target=_beat, daemon=True)
    _thread.start()


@hook("on_after_init")
def end(ctx):
    _stop.set()
    if _thread is not None:
        _thread.join()


@hook("on_failure")
def end_after_failure(ctx):
    end(ctx)
