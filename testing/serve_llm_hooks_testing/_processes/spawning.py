"""Start processes from a template, of which this process has one or two; and tell how one has ended."""

from __future__ import annotations

import array
import atexit
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import serve_llm_hooks

from ..errors import HarnessError
from .channel import Channel

if TYPE_CHECKING:
    from collections.abc import Sequence

_ENTRY = (
    "import sys; sys.path[:0] = sys.argv[2:4]; "
    "from serve_llm_hooks_testing._processes.template import run_template; "
    "run_template(int(sys.argv[1]), tuple(sys.argv[4:]))"
)
_END_S = 5.0  # how long the template may take to end, and to say how a process has ended


class Template:
    """The template process, as the test's process sees it. Several threads may use it.

    Raises:
        HarnessError: it does not start.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        self.owner: int = os.getpid()
        self.modules: frozenset[str] = frozenset(modules)
        self._lock = threading.Lock()
        self._control, theirs = _pair(socket.SOCK_SEQPACKET)
        roots = [str(Path(file).resolve().parents[up]) for file, up in ((serve_llm_hooks.__file__, 1), (__file__, 2))]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _ENTRY, str(theirs.fileno()), *roots, *modules],
                pass_fds=[theirs.fileno()],
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # an interrupt from the keyboard is the test's affair
            )
        first = self._control.recv(1 << 16)
        if first != b"ready":
            self.close()
            raise HarnessError(
                "the process from which FakeCluster(processes=...) starts the others has failed:\n"
                f"{first.decode(errors='replace').rstrip() or 'it has ended without a word'}"
            )

    def is_usable(self, modules: Sequence[str]) -> bool:
        """Return whether it is this process's own, runs, and has the modules."""
        return self.owner == os.getpid() and self._process.poll() is None and self.modules.issuperset(modules)

    def fork(self) -> Channel:
        """Start a process; it waits for its work on the channel.

        Raises:
            OSError: the template has gone.
        """
        ours, theirs = _pair(socket.SOCK_STREAM)
        with theirs:
            descriptors = array.array("i", [theirs.fileno(), *_outputs()])
            try:
                with self._lock:
                    self._control.sendmsg([b"fork"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
            except OSError:
                ours.close()
                raise
        return Channel(ours)

    def kill(self, process_id: int) -> None:
        """Kill a process that this template has started, and what it has started in its group."""
        try:
            with self._lock:
                self._control.send(f"kill {process_id}".encode())
        except OSError:  # the template has gone, and with it every process that it has started
            return

    def exit_code(self, process_id: int, patience_s: float = _END_S) -> int | None:
        """Return how a process has ended, as ``subprocess`` tells it; ``None`` if it has not, or nobody knows."""
        with self._lock:
            try:
                self._control.send(f"end? {process_id}".encode())
                deadline_s = perf_counter() + patience_s
                while (left_s := deadline_s - perf_counter()) > 0:
                    if select.select([self._control], [], [], left_s)[0]:
                        asked, _, code = self._control.recv(64).decode().partition(" ")
                        if asked == str(process_id):  # or an answer for which nobody waits any more
                            return int(code) if code.lstrip("-").isdigit() else None
                        if not asked:
                            return None
            except OSError:
                return None
        return None

    def forget(self) -> None:
        """Close this process's copy of what a fork has inherited."""
        self._control.close()
        self._process.returncode = 0  # not this process's child: nothing to wait for

    def close(self) -> None:
        """End the template, and with it every process that it has started."""
        self._control.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


_lock = threading.Lock()
_templates: dict[tuple[str, ...], Template] = {}  # by what a config needs: the one in use
_replaced: list[Template] = []  # they may have processes yet


def template(imports: tuple[str, ...] = ()) -> Template:
    """Return this process's template with these modules, started if need be."""
    pytest = ("pytest",) if "pytest" in sys.modules else ()  # a child that imports a test's module would import it
    modules = (*pytest, *imports)
    with _lock:
        used = _templates.get(imports)
        if used is None or not used.is_usable(modules):
            _replace(imports, used := Template(modules))
        return used


def imports_of(config: object) -> tuple[str, ...]:
    """Return the module of Ray's or ours that has a real config's class: it takes seconds to import."""
    modules = [cls.__module__ for cls in type(config).__mro__]
    return tuple(name for name in modules if name.startswith(("serve_llm_hooks.", "ray.")))[:1]


def spawn(imports: tuple[str, ...] = ()) -> tuple[Template, Channel]:
    """Start a process from the template with these modules.

    Raises:
        HarnessError: it cannot be started.
    """
    used = template(imports)
    try:
        return used, used.fork()
    except OSError:  # it was killed meanwhile: once more, with a new one
        used = Template(sorted(used.modules))
    with _lock:
        _replace(imports, used)
    return used, used.fork()


def _replace(imports: tuple[str, ...], new: Template) -> None:
    if imports in _templates:
        _replaced.append(_templates[imports])
    _templates[imports] = new


def _pair(kind: socket.SocketKind) -> tuple[socket.socket, socket.socket]:
    """Return two sockets that wait for each other, whatever ``socket.setdefaulttimeout`` a hook has called."""
    pair = socket.socketpair(socket.AF_UNIX, kind)
    for end in pair:
        end.settimeout(None)
    return pair


def _environment() -> dict[str, str]:
    """Return the template's environment, without what makes pytest-cov measure it: it runs nothing of a test's."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COV_CORE", "COVERAGE_"))}


def _outputs() -> list[int]:
    """Return the file descriptors 1 and 2 of this process, or what stands in for one that is closed."""
    found = []
    for number in (1, 2):
        try:
            os.fstat(number)
        except OSError:
            number = _nowhere()
        found.append(number)
    return found


def _nowhere() -> int:
    if not _null:
        _null.append(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
    return _null[0]


_null: list[int] = []


def _forget_all() -> None:
    """In a fork of this process: the templates are its parent's, and end with that one."""
    global _lock
    _lock = threading.Lock()
    for each in (*_templates.values(), *_replaced):
        each.forget()
    _templates.clear()
    _replaced.clear()


@atexit.register
def _close_all() -> None:
    for each in (*_templates.values(), *_replaced):
        each.close()
    _templates.clear()
    _replaced.clear()


os.register_at_fork(after_in_child=_forget_all)
