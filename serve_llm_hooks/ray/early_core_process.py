"""What runs in the process that ``early_core`` begins, and what the two say to each other.

The process imports vLLM and waits. The replica asks it to become the process that ``multiprocessing`` would spawn now,
and tells what that one would get. The process looks whether it can be just that: what was read while vLLM was
imported, or is inherited, must not have changed since. It says so, and becomes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any

from serve_llm_hooks_engine import process_time

from .quick_imports import quick_imports

if TYPE_CHECKING:
    from collections.abc import Sequence

_ACCEPTED = "accepted"

# What a process inherits from the one that spawns it, as /proc/thread-self/status names it.
_INHERITED = (
    *("Umask", "Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "SigIgn", "Cpus_allowed", "Mems_allowed"),
    *("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"),
)

# vLLM sets these for the workers of an engine on a CPU, which compute, and are spawned with them; its core does not.
_FOR_CPU_WORKERS = {"LD_PRELOAD", "LOCAL_WORLD_SIZE", "NUMEXPR_MAX_THREADS", "TORCHINDUCTOR_CPP_DYNAMIC_THREADS"}

# Read by Python, or by a library when it is used. Others, as OMP_NUM_THREADS, libraries read when they are loaded.
_READ_WHEN_USED = (
    "AWS_",
    "FLASHINFER_",
    "HF_",
    "HUGGING_FACE_",
    "NCCL_",
    "RAY_",
    "SERVE_LLM_HOOKS_",
    "TORCHINDUCTOR_",
    "TRITON_",
    "VLLM_",
)


def ask(channel: socket.socket, program: str, fds: Sequence[int], begun_with: dict[str, str]) -> str:
    """Ask the process to become one that is spawned here and now; return why it cannot, or an empty text.

    Args:
        channel: the replica's end of the socket.
        program: what a spawned process would run.
        fds: the file descriptors that it would have.
        begun_with: the replica's environment when it began the process.

    Raises:
        OSError: the process has ended, or has not answered within the socket's limit.
    """
    asked = {
        "program": program,
        "fds": fds,
        "begun with": begun_with,
        "environment": dict(os.environ),
        "path": sys.path,
        "inherited": _inherited(),
        "blocked signals": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }
    socket.send_fds(channel, [b"?"], fds)
    channel.sendall(json.dumps(asked).encode())
    channel.shutdown(socket.SHUT_WR)
    answer = _read(channel).decode()
    return "" if answer == _ACCEPTED else answer or "its process has ended"


def main(fd: int, modules: Sequence[str]) -> None:
    """Import modules, and become the process that the replica asks for; end if it asks for none.

    Args:
        fd: the other end of the replica's socket, which is closed when the replica ends.
        modules: what to import.
    """
    channel = _moved(fd, 3)
    path, environment = [*sys.path], dict(os.environ)
    read = _import(modules)
    flag, fds, _, _ = socket.recv_fds(channel, 1, 253)
    if not flag:
        return
    asked = json.loads(_read(channel))
    _change(environment, asked["begun with"], asked["environment"])
    why_not = _difference(asked, path, environment, read)
    if not why_not:
        channel, why_not = _place(channel, fds, asked["fds"])
    with channel:
        channel.sendall((why_not or _ACCEPTED).encode())
    if not why_not:
        _become(asked, environment)


def _change(environment: dict[str, str], before: dict[str, str], after: dict[str, str]) -> None:
    """Change in an environment what differs in another one; libraries set variables that Python is not told of."""
    for name in before.keys() - after.keys():
        environment.pop(name, None)
    environment.update(after.items() - before.items())


def _become(asked: dict[str, Any], environment: dict[str, str]) -> None:
    with suppress(Exception):  # it looks for the process's title beside the environment, which is about to move
        import_module("setproctitle").getproctitle()
    for name in os.environ.keys() - environment.keys():
        del os.environ[name]
    os.environ.update(environment)
    signal.pthread_sigmask(signal.SIG_SETMASK, asked["blocked signals"])
    process_time.begin_now()
    exec(asked["program"], vars(sys.modules["__main__"]))


def _read(channel: socket.socket) -> bytes:
    return b"".join(iter(lambda: channel.recv(65536), b""))


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
                with suppress(Exception):  # told where vLLM imports it
                    import_module(module)
    finally:
        os.environ.encodekey = encode
    return read


def _inherited() -> dict[str, str]:
    """Return what a process that is spawned here inherits, but for its environment and its file descriptors."""
    with open("/proc/thread-self/status") as file:
        status = dict(line.split(":", 1) for line in file)
    found = {name: status[name].strip() for name in _INHERITED if name in status}
    found["working directory"] = os.getcwd()
    found["priority"] = str(os.getpriority(os.PRIO_PROCESS, 0))
    for name in ("limits", "oom_score_adj", "cgroup"):
        with open(f"/proc/self/{name}") as file:
            found[name] = file.read()
    return found


def _difference(asked: dict[str, Any], path: list[str], environment: dict[str, str], read: set[str]) -> str:
    """Return what a spawned process would find otherwise than this one did; an empty text if nothing."""
    for name, value in _inherited().items():
        if asked["inherited"].get(name) != value:
            return f"the replica's {name} has changed since"
    if asked["path"][: len(path)] != path:  # what is added at the end hides nothing
        return "sys.path has changed since"
    for name in sorted(os.environ.keys() | environment.keys()):
        if not _is_as_good(name, os.environ.get(name), environment.get(name), read):
            return f"{name} has changed since"
    return ""


def _is_as_good(name: str, before: str | None, now: str | None, read: set[str]) -> bool:
    """Return True if a variable that is set now does what it does if a process begins with it."""
    if before == now:
        return True
    if name == "LD_LIBRARY_PATH":
        return _folders(before) == _folders(now)  # modules add theirs to it again in each process
    if name in _FOR_CPU_WORKERS:
        return bool(import_module("vllm.platforms").current_platform.is_cpu())
    return name.startswith(_READ_WHEN_USED) and name not in read


def _folders(path: str | None) -> list[str]:
    return list(dict.fromkeys(folder for folder in (path or "").split(":") if os.path.isdir(folder)))


def _place(channel: socket.socket, fds: Sequence[int], places: Sequence[int]) -> tuple[socket.socket, str]:
    """Give file descriptors the numbers that they have in the replica; return the channel, and what is in the way."""
    above = max(places) + 1
    channel = _moved(channel.detach(), above)
    moved = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, place in zip(moved, places, strict=True):
        with suppress(OSError):
            os.fstat(place)
            return channel, f"file descriptor {place} is in use"
        os.dup2(fd, place)
        os.close(fd)
    return channel, ""


def _moved(fd: int, above: int) -> socket.socket:
    channel = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, above))
    os.close(fd)
    return channel
