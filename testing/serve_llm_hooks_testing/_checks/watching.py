"""Write down what a process of a comparison prints and logs, and its files, programs and connections."""

from __future__ import annotations

import atexit
import json
import logging
import os
import sys
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import serve_llm_hooks

from .._processes.relay import STREAMS, stream
from .config_changes import watch_config
from .own_files import OwnFiles

if TYPE_CHECKING:
    from types import FrameType

_LINKED = 500  # entries of the working directory that each node finds in its own
_OURS = tuple(f"{Path(file).parent}{os.sep}" for file in (serve_llm_hooks.__file__, Path(__file__).parent))
_STANDARD = f"{Path(os.__file__).parent}{os.sep}"
_INSTALLED = ("site-packages", "dist-packages")
# What is read there is the machine's, and the same on all of them.
_OF_THE_SYSTEM = (sys.prefix, sys.base_prefix, "/proc/", "/sys/", "/usr/", "/etc/", "/lib", "/bin/", "/opt/")
_CODE = (".py", ".pyc", ".so")


class Watch:
    """Called in each process before its work.

    Args:
        folder: where each node has a folder, and each process writes down what it does.
        test_folder: the working directory of the test.
        hidden: paths of files of which each node has its own.
    """

    def __init__(self, folder: str, test_folder: str, hidden: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.test_folder = test_folder
        self.hidden = hidden

    def __call__(self) -> None:
        """Give the process the folders of its node, and write down what it does from now on."""
        here = os.getcwd()
        node = "node-0" if here == self.test_folder else os.path.basename(here)
        own = os.path.join(self.folder, node)
        self._enter(own)
        notebook = Notebook(os.path.join(self.folder, f"did-{os.getpid()}"), node)
        OwnFiles(self.hidden, os.path.join(own, "hidden"), notebook.note_read).install()
        for name, descriptor in STREAMS.items():
            setattr(sys, name, stream(notebook.note_printed, descriptor))
        logging.root.handlers[:] = [_LogHandler(notebook)]
        logging.root.setLevel(logging.DEBUG)
        warnings.showwarning = lambda *args, **kwargs: None
        sys.addaudithook(notebook.note_event)
        watch_config(lambda field: notebook.note("config", field))
        atexit.register(notebook.note_surroundings, _surroundings())

    def _enter(self, own: str) -> None:
        work, temporary = os.path.join(own, "work"), os.path.join(own, "tmp")
        if not os.path.isdir(work):
            os.makedirs(temporary)
            os.mkdir(work)
            for name in sorted(os.listdir(self.test_folder))[:_LINKED]:
                os.symlink(os.path.join(self.test_folder, name), os.path.join(work, name))
        os.chdir(work)
        os.environ["TMPDIR"] = temporary
        tempfile.tempdir = None


class Notebook:
    """Notes of what one process does, a line for each thing.

    Args:
        file: where it is written.
        node: the process's node.
    """

    def __init__(self, file: str, node: str) -> None:
        self._descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._noted: set[tuple[str, ...]] = set()
        self._written: set[str] = set()
        self.note("node", node)

    def note(self, *what: str) -> None:
        """Write it down, once."""
        if what not in self._noted:
            self._noted.add(what)
            with suppress(OSError):  # a hook has closed what is not its own
                os.write(self._descriptor, json.dumps(what).encode() + b"\n")

    def note_printed(self, data: bytes) -> None:
        """Write down what is printed, and where."""
        self._note_at("line", data.decode(errors="replace").rstrip("\n"))

    def note_event(self, event: str, args: tuple[Any, ...]) -> None:
        """Write down what matters of what Python tells of itself. Nothing may be raised here."""
        if event not in _EVENTS:
            return
        with suppress(Exception):  # of any kind: it would be raised in the code that is watched
            if event == "open":
                self._note_open(*args)
            elif event == "os.rename":
                self.note_read(os.fsdecode(args[0]))
                self._note_written(os.fspath(args[1]))
            elif event == "os.mkdir":
                if not os.access(args[0], os.F_OK):
                    self.note("made", _absolute(args[0]))
            else:
                self._note_at("effect", f"{event} {_EVENTS[event](args)}")

    def note_read(self, path: str) -> None:
        """Write down a file that is there and was read, or looked at, unless this process has written it."""
        path = _absolute(path)
        if path not in self._written and not _is_of_the_system(path) and not path.endswith(_CODE):
            self.note("read", path)

    def note_surroundings(self, before: dict[str, Any]) -> None:
        """Write down what has changed of what a process has of its own."""
        now = _surroundings()
        for name in sorted({*before, *now}):
            if before.get(name) != now.get(name):
                self.note("changed", name)

    def _note_open(self, path: object, mode: str | None, flags: int) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        written = any(letter in mode for letter in "wax+") if mode else bool(flags & (os.O_WRONLY | os.O_RDWR))
        if written:
            self._note_written(os.fspath(path))
        elif os.access(path, os.F_OK):
            self.note_read(os.fsdecode(path))

    def _note_written(self, path: Any) -> None:
        path = _absolute(path)
        if not _is_of_the_system(path) and "__pycache__" not in path:
            self._written.add(path)
            self.note("wrote", path, "" if os.access(path, os.F_OK) else "new")

    def _note_at(self, kind: str, text: str) -> None:
        place = _place(sys._getframe(1))
        if place:
            self.note(kind, place, text)


class _LogHandler(logging.Handler):
    def __init__(self, notebook: Notebook) -> None:
        super().__init__()
        self._notebook = notebook

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] != "asyncio" and not record.pathname.startswith(_OURS):
            place = f"{os.path.basename(record.pathname)}:{record.lineno}"
            with suppress(Exception):  # its arguments do not fit
                self._notebook.note("line", place, record.getMessage())


_EVENTS: dict[str, Any] = {
    "open": None,
    "os.rename": None,
    "os.mkdir": None,
    "subprocess.Popen": lambda args: args[1] if isinstance(args[1], str) else " ".join(map(str, args[1])),
    "os.system": lambda args: args[0],
    "urllib.Request": lambda args: args[0],
    "socket.getaddrinfo": lambda args: args[:2],
    "socket.connect": lambda args: args[1],
}


def _place(frame: FrameType | None) -> str:
    """Return the nearest place that is neither ours nor Python's."""
    while frame is not None:
        name = frame.f_code.co_filename
        is_standard = name.startswith(_STANDARD) and not any(folder in name for folder in _INSTALLED)
        if not (name.startswith((*_OURS, "<frozen")) or is_standard):
            return f"{os.path.basename(name)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _is_of_the_system(path: str) -> bool:
    return path.startswith(_OF_THE_SYSTEM) or (path.startswith("/dev/") and not path.startswith("/dev/shm/"))


def _absolute(path: Any) -> str:
    return os.path.abspath(os.fsdecode(path))


def _surroundings() -> dict[str, Any]:
    environment = {f"os.environ[{name!r}]": value for name, value in os.environ.items()}
    return {**environment, "sys.path": tuple(sys.path), "the working directory": os.getcwd()}
