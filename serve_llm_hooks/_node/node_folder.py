"""The folder in which the processes of a node tell each other what has been done there: locks, and records.

A lock is the kernel's (``flock``), so that it ends with the process that holds it, however that ends. A record is
written whole or not at all. Neither is good on a file system of the network.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._core.errors import ServeLLMHooksError
from .._core.messages import one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "SERVE_LLM_HOOKS_NODE_DIR"


class NodeFolder:
    """The folder of this user on a node.

    Args:
        environ: the environment whose ``SERVE_LLM_HOOKS_NODE_DIR`` says where; left out, this process's.
        parts: names of folders in it, one in the other.
        process_id: what this process is known by.
    """

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        parts: tuple[str, ...] = (),
        process_id: int | None = None,
    ) -> None:
        self._environ = environ
        self._parts = parts
        self._path: Path | None = None
        self.process_id: int = os.getpid() if process_id is None else process_id

    def lock(self, name: str) -> NodeLock:
        """Return a lock, which is not held yet.

        Raises:
            ServeLLMHooksError: the folder cannot be used; the message says why, and what to set.
        """
        return NodeLock(self._made() / f"{name}.lock")

    def read(self, name: str) -> Any:
        """Return what was written; ``None`` if nothing was, or what cannot be read here."""
        try:
            return pickle.loads((self._made() / f"{name}.done").read_bytes())
        except Exception:  # such as that of another version of this library
            return None

    def write(self, name: str, value: object) -> None:
        """Write a value, whole or not at all."""
        file = self._made() / f"{name}.done"
        part = file.with_suffix(f".{os.getpid()}.part")
        try:
            part.write_bytes(pickle.dumps(value))
            part.replace(file)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    async def pause(self, seconds: float) -> None:
        """Wait before a lock is tried again."""
        await asyncio.sleep(seconds)

    def base(self, given: str | None) -> str:
        """Return the folder in which that of this user is made, if the variable says this."""
        return given or tempfile.gettempdir()

    def _made(self) -> Path:
        """Return the folder; make it on first use."""
        if self._path is None:
            if not hasattr(os, "getuid"):
                raise ServeLLMHooksError(
                    "a hook with once_per_node= needs the file locks of Linux or macOS, which this system has not: "
                    "leave once_per_node= out here"
                )
            environ = os.environ if self._environ is None else self._environ
            given = environ.get(VARIABLE)
            if given and not os.path.isabs(given):
                raise _unusable(given, given, "it is no absolute path")
            base = self.base(given)
            try:
                self._path = _make(Path(base), self._parts)
            except OSError as error:
                raise _unusable(given, base, one_line(error)) from error
        return self._path


class NodeLock:
    """A lock of this node that one process holds at a time.

    In its file stands the id of the process that has begun what the lock is for, and has not come to an end.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take it if nobody holds it. Return whether it is held now.

        Raises:
            ServeLLMHooksError: its file cannot be opened, or not be locked.
        """
        import fcntl  # here, as below: Windows has none, where a fake cluster runs too

        try:
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise _unusable(None, str(self._file.parent), one_line(error)) from error
        is_held = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_held = os.path.samestat(os.fstat(descriptor), os.stat(self._file))
        except (BlockingIOError, FileNotFoundError):
            pass  # another process holds it, or has removed the file
        except OSError as error:  # as where the file system has no locks
            raise _unusable(None, str(self._file.parent), one_line(error)) from error
        finally:
            if is_held:
                self._descriptor = descriptor
            else:
                os.close(descriptor)
        return is_held

    def release(self) -> None:
        """Let others have it, if it is held."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            import fcntl

            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)  # also for processes that were forked meanwhile
            os.close(descriptor)

    def begun_by(self) -> int | None:
        """Return the process that has begun and come to no end; ``None`` if there is none."""
        with contextlib.suppress(OSError, ValueError):
            return int(self._file.read_text())
        return None

    def note(self, process_id: int | None) -> None:
        """Write down that a process has begun; ``None``: that it has come to an end. Only while it is held."""
        descriptor = self._descriptor
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            with contextlib.suppress(OSError):  # the disk is full, which the hook is to find out
                os.pwrite(descriptor, b"" if process_id is None else str(process_id).encode(), 0)


def _make(base: Path, parts: tuple[str, ...]) -> Path:
    """Make the folder. What lies in it is unpickled, so nobody else may write there."""
    base.mkdir(parents=True, exist_ok=True)
    own = base / f"serve-llm-hooks-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise PermissionError(f"{own.name} in it is not a folder that this user alone may write to")
    for part in parts:
        own /= part
        own.mkdir(mode=0o700, exist_ok=True)
    return own


def _unusable(given: str | None, base: str, why: str) -> ServeLLMHooksError:
    source = VARIABLE if given else f"the default; {VARIABLE} says otherwise"
    return ServeLLMHooksError(
        f"the folder for what runs once per node, {base} ({source}), cannot be used: {why}. In the config's "
        f'runtime_env["env_vars"], set {VARIABLE} to a folder on a disk of the node\'s own to which its processes may '
        "write"
    )
