"""Import vLLM in the process that ``early_core`` begins, and turn it into the engine's core when the replica asks.

The process imports vLLM, and says that it is ready. The replica asks it to become the process that ``multiprocessing``
would spawn now, and says what that one would get. If it finds that it can be just that, it says so, and becomes it:
nothing may have changed since that a process inherits, or that was read while vLLM was imported.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import sys
from collections import Counter
from contextlib import suppress
from importlib import import_module
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any

from serve_llm_hooks_engine import process_time

from .._core.messages import one_line
from .quick_imports import quick_imports

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LIMIT_S = 60.0  # how long the imports may still take once vLLM asks for the core
_READY, _ACCEPTED = "ready", "accepted"
_PR_SET_PDEATHSIG = 1

# What a process inherits from the one that spawns it, as /proc/thread-self/status names it.
_INHERITED = (
    *("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "SigIgn", "Cpus_allowed", "Mems_allowed"),
    *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "THP_enabled"),
)

# Variables that are read by Python, or when they are used; libraries read OMP_NUM_THREADS and its like when loaded.
_READ_WHEN_USED = ("AWS_", "HF_", "HUGGING_FACE_", "RAY_ADDRESS", "SERVE_LLM_HOOKS_", "TORCHINDUCTOR_", "VLLM_")

# vLLM sets these when it spawns an engine on a CPU, for its workers, which compute. The core does not, and may get them
# late: it has them for the workers that it spawns.
_FOR_CPU_WORKERS = {"LD_PRELOAD", "LOCAL_WORLD_SIZE", "NUMEXPR_MAX_THREADS", "TORCHINDUCTOR_CPP_DYNAMIC_THREADS"}
_PRELOADED = ("libgomp", "libtcmalloc")


def ask(channel: socket.socket, process: int, program: str, fds: Sequence[int]) -> str:
    """Ask the process to become one that is spawned here and now; return why it cannot, or an empty text.

    Args:
        channel: the replica's end of the socket.
        process: the process, as ``os.pidfd_open`` gives it.
        program: what a spawned process would run.
        fds: the file descriptors that it would have.

    Raises:
        OSError: the process has ended.
    """
    asked = {
        "program": program,
        "fds": fds,
        "environment": _environment(),
        "path": sys.path,
        "inherited": _inherited(),
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }
    answer = _line(channel, process)
    if answer == _READY:
        socket.send_fds(channel, [b"?"], fds)
        channel.sendall(json.dumps(asked).encode() + b"\n")
        answer = _line(channel, process)
    return "" if answer == _ACCEPTED else answer


def _line(channel: socket.socket, process: int) -> str:
    """Return the next line that the process says, or why there is none."""
    said = b""
    waits = select.poll()
    waits.register(channel, select.POLLIN)
    waits.register(process, select.POLLIN)
    while not said.endswith(b"\n"):
        ready = [fd for fd, _ in waits.poll(_LIMIT_S * 1000)]
        if channel.fileno() not in ready:
            return "its process has ended" if ready else "its imports take too long"
        part = channel.recv(65536)
        if not part:
            return "its process has ended"
        said += part
    return said.decode().strip()


def main(channel: socket.socket, modules: Sequence[str], replica: int) -> None:
    """Import modules, and become the process that the replica asks for; end if it asks for none.

    Args:
        channel: the other end of the replica's socket.
        modules: what to import.
        replica: the replica's process.
    """
    libc = ctypes.CDLL(None)
    # End with the thread that has begun this process, which lives as long as the replica; others may hold its end of
    # the socket.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    become = None
    try:
        become = _Become(channel, modules)
        why_not = become.why_not if os.getppid() == replica else "the replica has ended"
        if not why_not:
            libc.prctl(_PR_SET_PDEATHSIG, 0)
        with channel:
            channel.sendall((why_not or _ACCEPTED).encode() + b"\n")
    except BaseException as error:  # an import may exit, and Ray may interrupt this process
        become, why_not = None, one_line(error)
        with suppress(OSError):
            channel.sendall(why_not.encode() + b"\n")
    if why_not or become is None:
        os._exit(0)  # without a word of Python's
    become()


class _Become:
    """Prepare this process to become the one that it is asked for; the call does it.

    Attributes:
        why_not: why it cannot; empty if it can.
    """

    def __init__(self, channel: socket.socket, modules: Sequence[str]) -> None:
        """Import modules, say that it is done, and hear what to become."""
        path, libraries = [*sys.path], os.environ.get("LD_LIBRARY_PATH")
        self._read = _import(modules)
        channel.sendall(_READY.encode() + b"\n")
        flag, self._fds, _, _ = socket.recv_fds(channel, 1, 253)
        if not flag:
            os._exit(0)  # nobody asks
        self._asked: dict[str, Any] = json.loads(channel.makefile().readline())
        self._changes = _changes(self._asked["environment"])
        self.why_not = (
            self._inherits()
            or self._searches(path, libraries)
            or self._variables()
            or self._make_room(channel.fileno())
        )
        with suppress(
            Exception
        ):  # it finds the place of the process's title by the environment, which is about to move
            import_module("setproctitle").getproctitle()

    def __call__(self) -> None:
        """Become it."""
        for fd, place in zip(self._fds, self._asked["fds"], strict=True):
            os.dup2(fd, place)
            os.close(fd)
        for name, value in self._changes.items():
            if value is None:
                os.environ.pop(name, None)
                os.unsetenv(name)  # what a library has set, Python does not know of
            else:
                os.environ[name] = value
        signal.pthread_sigmask(signal.SIG_SETMASK, self._asked["blocked signals"])
        process_time.begin_now()
        exec(self._asked["program"], vars(sys.modules["__main__"]))

    def _inherits(self) -> str:
        """Return why what it has inherited is not what the replica would pass on now, or an empty text."""
        own_tracker = getattr(resource_tracker._resource_tracker, "_fd", None)
        if own_tracker is not None:  # an import has made a lock; the replica's tracker would not know of it
            return "its imports have begun a resource tracker"
        now = self._asked["inherited"]
        changed = [name for name, value in _inherited().items() if now.get(name) != value]
        return f"the replica's {changed[0]} has changed since" if changed else ""

    def _searches(self, path: list[str], libraries: str | None) -> str:
        """Return why modules or libraries would be found elsewhere, or an empty text."""
        before, here = Counter(path), Counter(sys.path)
        added = {folder for folder in here if here[folder] > before[folder]}
        then, now = ([folder for folder in each if folder not in added] for each in (path, self._asked["path"]))
        if then != now:
            return "sys.path has changed since"
        # The linker has looked at it when this process began: what imports have set since has no effect here.
        if _with_libraries(libraries) != _with_libraries(self._asked["environment"].get("LD_LIBRARY_PATH")):
            return "LD_LIBRARY_PATH has changed since"
        return ""

    def _variables(self) -> str:
        """Return why its variables cannot be set now, or an empty text."""
        here = _environment()
        late = [
            name for name, value in self._changes.items() if not _is_as_good(name, here.get(name), value, self._read)
        ]
        return f"{late[0]} has changed since" if late else ""

    def _make_room(self, channel: int) -> str:
        """Move the file descriptors that were sent off their places-to-be; return why that fails, or an empty text."""
        places = self._asked["fds"]
        if len(self._fds) != len(places):
            return "file descriptors are missing: this process may have no more"
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(places) + 1) for fd in self._fds]
        for fd in self._fds:
            os.close(fd)
        self._fds = moved
        taken = [place for place in places if place != channel and _is_open(place)]
        return f"file descriptor {taken[0]} is in use" if taken else ""


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def _import(modules: Sequence[str]) -> set[str]:
    """Import modules; return the names of the environment variables that were asked for."""
    read: set[str] = set()
    encode = os.environ.encodekey

    def note(name: str) -> Any:
        read.add(name)
        return encode(name)

    os.environ.encodekey = note
    try:
        with quick_imports():
            for module in modules:
                import_module(module)
    finally:
        os.environ.encodekey = encode
    return read


def _environment() -> dict[str, str]:
    """Return the environment that a process that is spawned here gets: libraries set variables that Python misses."""
    entries = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    found: dict[str, str] = {}
    index = 0
    while (entry := entries[index]) is not None:
        name, _, value = os.fsdecode(entry).partition("=")
        found.setdefault(name, value)
        index += 1
    return found


def _changes(there: Mapping[str, str]) -> dict[str, str | None]:
    """Return the variables that differ from another environment, with their values there."""
    here = _environment()
    return {name: there.get(name) for name in sorted({*here, *there}) if here.get(name) != there.get(name)}


def _inherited() -> dict[str, str]:
    """Return what a process that is spawned here inherits, beside its environment and the files that it is given."""
    with open("/proc/thread-self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    found = {name: status[name].strip() for name in _INHERITED if name in status}
    found["working directory"] = os.getcwd()
    found["priority"] = f"{os.getpriority(os.PRIO_PROCESS, 0)} {os.sched_getscheduler(0)}"
    found["process group"] = f"{os.getpgid(0)} {os.getsid(0)}"
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        there = os.fstat(fd)
        found[name] = f"{there.st_dev} {there.st_ino}"
    for name in ("limits", "oom_score_adj", "cgroup"):
        with open(f"/proc/self/{name}") as file:
            found[name] = file.read()
    return found


def _is_as_good(name: str, here: str | None, there: str | None, read: set[str]) -> bool:
    """Return True if it makes no difference that a variable is set only now."""
    if name == "LD_LIBRARY_PATH":  # compared by what is in its folders
        return True
    if name in _FOR_CPU_WORKERS:
        is_vllms = name != "LD_PRELOAD" or _preloaded(here) == _preloaded(there)
        return is_vllms and bool(import_module("vllm.platforms").current_platform.is_cpu())
    return name.startswith(_READ_WHEN_USED) and name not in read


def _with_libraries(path: str | None) -> list[str]:
    """Return the folders of a search path in which there is a library; an empty entry is the working directory."""
    folders = dict.fromkeys(os.path.realpath(folder) for folder in (path or "").split(":")) if path else {}
    return [folder for folder in folders if os.path.isdir(folder) and any(".so" in name for name in os.listdir(folder))]


def _preloaded(libraries: str | None) -> list[str]:
    given = (libraries or "").replace(":", " ").split()
    return [library for library in given if not os.path.basename(library).startswith(_PRELOADED)]
