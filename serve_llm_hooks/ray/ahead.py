"""Import the modules that a start needs next, while it waits for Serve, for its nodes or for its engine."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from importlib import import_module

_FOR_START = (
    "serve_llm_hooks.ray.hooked_start",
    "serve_llm_hooks.ray.config_pickling",
    "serve_llm_hooks.ray.config_checks",
    "serve_llm_hooks._sources.fields",
)
_AFTER_NODES = ("serve_llm_hooks._core.results", "serve_llm_hooks.ray.hand_over", "serve_llm_hooks.ray.engine_steps")
_AFTER_ENGINE = ("serve_llm_hooks.ray.adapters", "serve_llm_hooks._observe.ending", "serve_llm_hooks.ray.metrics")
_ANSWERED_S = 0.005  # Serve asks whether the replica is there before it has it start
_SOON_S = 0.1  # a thread that begins at once keeps the interpreter from the engine's start


def do_while_serve_waits() -> None:
    """Import, in the event loop that Serve's replica is made in, the modules for its start.

    When Serve's controller has heard that the replica is there, it takes 50 to 100 ms until it has it start.
    """
    with contextlib.suppress(RuntimeError):  # nobody's event loop: a replica of another kind
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_later, _ANSWERED_S, _import, *_FOR_START)


def do_while_nodes_work() -> None:
    """Import, in the event loop, the modules that are needed once the nodes have answered."""
    asyncio.get_running_loop().call_soon(_import, *_AFTER_NODES)


def do_while_the_engine_starts() -> None:
    """Import, in a thread, the modules for the start's end, and remove the folders of replicas that were killed."""

    def do_it() -> None:
        from . import locked_folder

        _import(*_AFTER_ENGINE)
        locked_folder.remove_left_over()

    timer = threading.Timer(_SOON_S, do_it)
    timer.name, timer.daemon = "serve-llm-hooks beside the engine", True
    with contextlib.suppress(RuntimeError):  # no thread can be had
        timer.start()


def _import(*modules: str) -> None:
    for module in modules:
        with contextlib.suppress(Exception):  # told when it is imported for its use
            import_module(module)
