"""Begin the process of the engine's core early, so that it imports vLLM while the replica does.

vLLM's engine core is a process of its own. vLLM spawns it when the replica has imported vLLM and made the engine's
config, and it then imports vLLM once more. So a replica begins this process first of all
(``early_core_process`` is what runs in it), and where vLLM spawns the core, this process becomes it, with the
environment and the file descriptors of a spawned one. Where the two would differ, vLLM spawns the core as always.

It only saves time: nothing fails with it, and what keeps it from being used is in the log.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from contextlib import ExitStack, suppress
from multiprocessing import util
from typing import TYPE_CHECKING, Any

from . import prewarm

if TYPE_CHECKING:
    from collections.abc import Sequence

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

_util: Any = util  # not by its types, which let nobody put a function in the place of one

MODULES = ("vllm.v1.engine.core", "vllm.v1.executor.multiproc_executor")
"""The modules that the process imports."""

_FEW_CORES = 4  # with fewer, it waits for the prewarm, which the start needs before it needs the core
_OTHER_ENGINE = "RAYLLM_VLLM_ENGINE_CLS"  # Ray's variable for an engine of somebody's own
_PROGRAM = """
import json, socket, sys
channel = socket.socket(fileno={fd})
sys.path[:] = json.loads(channel.makefile().readline() or sys.exit())
from {package}.early_core_process import main
main(channel, {modules!r}, {replica})
"""


class EarlyCore:
    """A process that will be the engine's core; it ends with this one."""

    def __init__(self) -> None:
        """Begin it, with the interpreter and the flags of a process that ``multiprocessing`` spawns."""
        from multiprocessing import spawn

        path = json.dumps(sys.path).encode() + b"\n"
        self._spawn = _util.spawnv_passfds  # what spawns until now
        self._path = spawn.get_executable()
        self._flags = spawn.get_command_line()[1:-2]
        self._lock = threading.Lock()
        self._pid: int | None = self._begin(path)
        _util.spawnv_passfds = self._give

    def _begin(self, path: bytes) -> int:
        with ExitStack() as undo:
            self._channel, theirs = socket.socketpair()
            undo.callback(self._channel.close)
            with theirs:
                program = _PROGRAM.format(fd=theirs.fileno(), package=__package__, modules=MODULES, replica=os.getpid())
                command = [self._path, *self._flags, program, "--multiprocessing-fork"]
                pid: int = self._spawn(self._path, command, [theirs.fileno()])
            undo.callback(_kill, pid)
            # Its number may be another process's once somebody has waited for it, as hooks may do for any child.
            self._process = os.pidfd_open(pid)
            undo.callback(os.close, self._process)
            self._channel.sendall(path)
            undo.pop_all()
        return pid

    def throw_away(self, why: str) -> None:
        """End the process, if vLLM has not taken it, and say why."""
        if (pid := self._take()) is not None:
            self._end(pid, why)

    def _take(self) -> int | None:
        """Put back what spawns processes; return the id of this one, or ``None`` if it has been taken."""
        with self._lock:
            pid, self._pid = self._pid, None
            if _util.spawnv_passfds == self._give:  # else somebody has put something in its place since
                _util.spawnv_passfds = self._spawn
        return pid

    def _end(self, pid: int, why: str, level: int = logging.DEBUG) -> None:
        logger.log(level, "the engine's core that was begun early is not used: %s", why)
        with suppress(OSError):  # it has ended by itself
            signal.pidfd_send_signal(self._process, signal.SIGKILL)
            os.waitpid(pid, 0)
        self._close()

    def _close(self) -> None:
        self._channel.close()
        os.close(self._process)

    def _give(self, path: Any, args: Sequence[Any], passfds: Sequence[int]) -> int:
        """Return the process where vLLM spawns the engine's core; have Python spawn all others.

        Which process it is, is read in the caller's frame: to take the place of Python's function that knows it, what
        Python does there would have to be done again here.
        """
        process = sys._getframe(1).f_locals.get("process_obj")
        is_core = str(getattr(process, "name", "")).startswith("EngineCore")
        pid = self._take() if is_core else None
        if pid is not None:
            why_not = "the start was interrupted"
            try:
                why_not = self._hand_over(path, args, passfds)
            finally:
                if why_not:
                    self._end(pid, why_not, logging.INFO)  # the start takes longer for it
            if not why_not:
                self._close()
                return pid
        spawned: int = self._spawn(path, args, passfds)
        return spawned

    def _hand_over(self, path: Any, args: Sequence[Any], passfds: Sequence[int]) -> str:
        """Give the process what a spawned one gets; return why it cannot become one, or an empty text."""
        from .early_core_process import ask

        if path != self._path or [*args[1:-2]] != self._flags:
            return "the core is spawned with another interpreter, or other flags"
        try:
            return ask(self._channel, self._process, str(args[-2]), sorted(set(passfds)))
        except Exception as error:
            return prewarm.one_line(error)


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


_begun: EarlyCore | None = None


def begin(*, in_start: bool = False) -> None:
    """Begin the process, if this is a replica that will start an engine, and has not begun one.

    Args:
        in_start: whether its start has begun. Before that, the name of its deployment tells.
    """
    global _begun
    if _begun is not None or os.environ.get(prewarm.PREWARM) == "0" or os.environ.get(_OTHER_ENGINE):
        return
    if not (prewarm.replica_name() if in_start else prewarm.starts_engine()):
        return
    if prewarm.is_at_work() and _cores() < _FEW_CORES:
        return
    try:
        _begun = EarlyCore()
    except Exception as error:
        logger.debug("the engine's core cannot be begun early: %s", prewarm.one_line(error))


def throw_away(why: str) -> None:
    """End this process's early core, if it has one that vLLM has not taken."""
    if _begun is not None:
        _begun.throw_away(why)


def _cores() -> float:
    """Return how many cores this process may use; a container's limit counts."""
    cores: float = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError), open("/sys/fs/cgroup/cpu.max") as file:  # no limit, or another kind of cgroups
        quota, period = file.read().split()
        cores = min(cores, int(quota) / int(period))
    return cores
