"""The processes of a vLLM engine, without vLLM: a core that starts its workers, and what each of them does first.

Importing vLLM takes each of them five seconds. What they do here is vLLM's own way to call its plugins, as
``tests/versions`` holds it; that it is the right one is shown by ``tests/integration/test_engine_processes.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from serve_llm_hooks_engine import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_PLUGIN = "CONTRACT_NO_PLUGIN"
"""The processes, by the names of traces, in which vLLM cannot load our plugin."""

_loaded = False


def load_general_plugins() -> None:
    """Call the plugins, once: as ``vllm.plugins`` does, which only logs one that cannot be loaded."""
    global _loaded
    if _loaded:
        return
    _loaded = True
    allowed = os.environ.get("VLLM_PLUGINS")
    for point in entry_points(group="vllm.general_plugins"):
        if (allowed is None or point.name in allowed.split(",")) and point.name == "serve_llm_hooks":
            point.load()()


class EngineArgs:
    """The engine's arguments, as far as hooks are concerned: Ray makes them in a task of its own on a GPU."""

    def __post_init__(self) -> None:
        """Begin."""
        load_general_plugins()


class WorkerWrapperBase:
    """A worker's wrapper, as far as hooks are concerned."""

    def __init__(self, global_rank: int) -> None:
        self.global_rank = global_rank

    def init_worker(self) -> None:
        """Begin."""
        if f"worker-{self.global_rank}" not in os.environ[NO_PLUGIN].split():
            load_general_plugins()


class EngineCore:
    """The core, as far as hooks are concerned."""

    def __init__(self, workers: int) -> None:
        if "core" not in os.environ[NO_PLUGIN].split():
            load_general_plugins()
        _wait_for([_begin("worker", rank) for rank in range(workers)])


def start_processes(workers: int, without_plugin: Sequence[str]) -> None:
    """Start an engine's processes, where there are hooks for them, and wait until all have begun.

    Raises:
        RuntimeError: one has failed, in vLLM's words.
    """
    if VARIABLE not in os.environ:
        return
    environ = {**os.environ, NO_PLUGIN: " ".join(without_plugin)}
    try:
        _wait_for([_begin("core", workers, environ)])
    except subprocess.CalledProcessError:
        raise RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {}") from None


def _begin(role: str, number: int, environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", __spec__.name, role, str(number)], env=environ)


def _wait_for(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.wait()
    for process in processes:
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, process.args)


if __name__ == "__main__":
    if sys.argv[1] == "core":
        EngineCore(int(sys.argv[2]))
    else:
        WorkerWrapperBase(int(sys.argv[2])).init_worker()
