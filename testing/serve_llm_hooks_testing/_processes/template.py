"""The template: a small process with one thread, which has imported this package and nothing of the test's.

It forks the processes of a run, and ends with all of them when the test's process has gone, however that ended.
"""

from __future__ import annotations

import array
import ctypes
import gc
import importlib
import os
import select
import signal
import socket
import traceback

_IMPORTS = (
    "asyncio",
    "hashlib",
    "logging",
    "cloudpickle",
    "serve_llm_hooks.entry",
    "serve_llm_hooks._node.work",
    "serve_llm_hooks_testing.cluster",
    "serve_llm_hooks_testing.config",
    "serve_llm_hooks_testing._checks.watching",
    "serve_llm_hooks_testing._processes.child",
    "serve_llm_hooks_testing._processes.one_process",
    "serve_llm_hooks_testing._processes.replica_work",
    "serve_llm_hooks_testing._processes.surroundings",
)
_PR_SET_PDEATHSIG = 1
_KEPT = 10_000  # exit statuses that nobody has asked for yet


def run_template(control_fd: int, modules: tuple[str, ...]) -> None:
    """Serve the test's process until it goes. Each request is one packet on a socket.

    Args:
        control_fd: the socket.
        modules: what the processes will need besides, and may have before they begin: pytest.
    """
    control = socket.socket(fileno=control_fd)
    try:
        for name in (*_IMPORTS, *modules):
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # no collection in a child touches what it shares with this process
    except BaseException:
        control.send(traceback.format_exc().encode()[-50_000:])
        return
    control.send(b"ready")
    _Template(control).serve()


class _Template:
    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: set[int] = set()
        self._ended: dict[int, int] = {}
        self._asked: set[int] = set()  # whose end the test's process waits for
        self._wakeup: tuple[int, int] = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._libc = ctypes.CDLL(None)
        self._process_id = os.getpid()

    def serve(self) -> None:
        control = self._control.fileno()
        woken, wake = self._wakeup
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake)
        try:
            while True:
                ready, _, _ = select.select([control, woken], [], [])
                if woken in ready:
                    os.read(woken, 4096)
                    self._reap()
                if control in ready and not self._take_request():
                    return
        finally:
            for process_id in self._children:
                _kill(process_id)

    def _take_request(self) -> bool:
        """Do what is asked for. Return ``False`` when there is nobody any more who asks."""
        try:
            request, ancillary, _, _ = self._control.recvmsg(64, socket.CMSG_SPACE(3 * array.array("i").itemsize))
        except ConnectionError:
            return False
        if request == b"fork":
            descriptors = array.array("i")
            descriptors.frombytes(ancillary[0][2])
            self._fork(*descriptors)
        elif request.startswith(b"kill "):
            process_id = int(request[5:])
            if process_id in self._children:
                _kill(process_id)
        elif request.startswith(b"end? "):
            process_id = int(request[5:])
            self._asked.add(process_id)
            if process_id not in self._children:
                self._tell_end(process_id)
        return bool(request)

    def _fork(self, channel: int, stdout: int, stderr: int) -> None:
        try:
            process_id = os.fork()
        except OSError:  # no memory, or too many processes: the closed channel says so
            process_id = -1
        if process_id == 0:
            self._become_child(channel, stdout, stderr)
        if process_id > 0:
            self._children.add(process_id)
        for descriptor in (channel, stdout, stderr):
            os.close(descriptor)

    def _become_child(self, channel: int, stdout: int, stderr: int) -> None:
        try:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._process_id:
                os._exit(1)
            os.setpgid(0, 0)  # so that what a hook starts can be ended with its process
            signal.set_wakeup_fd(-1)
            for descriptor in self._wakeup:
                os.close(descriptor)
            self._control.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for descriptor, number in ((stdout, 1), (stderr, 2)):
                os.dup2(descriptor, number)
                os.close(descriptor)
            from .child import run_child

            run_child(channel)
        except BaseException:  # the test's process hears of no more than an end: here is why
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(1)

    def _reap(self) -> None:
        while True:
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            _kill(ended.si_pid)  # and so what it started; while it is not reaped, the id is nobody else's
            _, status = os.waitpid(ended.si_pid, 0)
            self._children.discard(ended.si_pid)
            self._ended[ended.si_pid] = os.waitstatus_to_exitcode(status)
            if len(self._ended) > _KEPT:
                del self._ended[next(iter(self._ended))]
            if ended.si_pid in self._asked:
                self._tell_end(ended.si_pid)

    def _tell_end(self, process_id: int) -> None:
        self._asked.discard(process_id)
        self._control.send(f"{process_id} {self._ended.pop(process_id, '?')}".encode())


def _kill(process_id: int) -> None:
    """Kill a process that is not reaped yet, and its group."""
    for kill in (os.killpg, os.kill):
        try:
            kill(process_id, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue
