"""Give simulated processes environment variables of their own, under the one ``os.environ``."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import TYPE_CHECKING, Any

from .state import current_process

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import ExitStack

    Variables = MutableMapping[bytes, bytes]


class _Routed(MutableMapping[bytes, bytes]):
    """A mapping behind ``os.environ`` while there are runs: of the variables of the process that asks."""

    def __init__(self, shared: Variables) -> None:
        self.shared = shared

    def _own(self) -> Variables:
        process = current_process()
        return self.shared if process is None or process.environ is None else process.environ

    def __getitem__(self, key: bytes) -> bytes:
        return self._own()[key]

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._own()[key] = value

    def __delitem__(self, key: bytes) -> None:
        del self._own()[key]

    def __iter__(self) -> Iterator[bytes]:
        return iter(tuple(self._own()))

    def __len__(self) -> int:
        return len(self._own())


class _Over(MutableMapping[bytes, bytes]):
    """The variables of the test's process, which are written to, and over them a process's own."""

    def __init__(self, own: Mapping[bytes, bytes], shared: Variables) -> None:
        self.own: dict[bytes, bytes | None] = dict(own)  # ``None``: it was deleted
        self._shared = shared

    def __getitem__(self, key: bytes) -> bytes:
        value = self.own[key] if key in self.own else self._shared[key]
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        if key in self.own:
            self.own[key] = value
        else:
            self._shared[key] = value

    def __delitem__(self, key: bytes) -> None:
        if self.own.get(key) is not None:
            self.own[key] = None
        elif key in self.own:
            raise KeyError(key)
        else:
            del self._shared[key]

    def __iter__(self) -> Iterator[bytes]:
        return (key for key, value in {**self._shared, **self.own}.items() if value is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def copy_of_environment() -> dict[bytes, bytes] | None:
    """Return the variables of the test's process; ``None`` where a test has replaced ``os.environ``."""
    shared = _shared()
    return None if shared is None else dict(shared)


def own_environment(begun_with: Mapping[bytes, bytes] | None, variables: Mapping[str, object]) -> Variables | None:
    """Return the environment of a process that has its own: what it writes there, no other sees.

    Args:
        begun_with: the variables of the test's process when the run began.
        variables: more of them, as a ``runtime_env`` has them.
    """
    return None if begun_with is None else {**begun_with, **_encoded(variables)}


def shared_environment(variables: Mapping[str, object]) -> Variables | None:
    """Return the environment of a process that has the test's own, and these variables besides."""
    shared = _shared()
    return None if shared is None or not variables else _Over(_encoded(variables), shared)


def environment_of_subprocess() -> dict[str, str] | None:
    """Return what a subprocess gets that is started now; ``None`` if that is the environment of the test's process."""
    process = current_process()
    return None if process is None or process.environ is None else dict(os.environ)


def install_environments(undo: ExitStack) -> None:
    """Let simulated processes have variables of their own, until ``undo`` is closed."""
    environ: Any = os.environ
    shared = _shared()
    if shared is None:
        return
    environ._data = _Routed(shared)
    undo.callback(setattr, environ, "_data", shared)
    for name in ("putenv", "unsetenv"):  # called by os.environ, for what is written in C
        real = getattr(os, name)
        setattr(os, name, _unless_own(real))
        undo.callback(setattr, os, name, real)


def _unless_own(real: Any) -> Any:
    def change(name: Any, *value: Any) -> None:
        process = current_process()
        environ = None if process is None else process.environ
        if environ is None or (isinstance(environ, _Over) and os.fsencode(name) not in environ.own):
            real(name, *value)

    change.__name__ = change.__qualname__ = real.__name__
    return change


def _shared() -> Any:
    data = getattr(os.environ, "_data", None)
    return data.shared if isinstance(data, _Routed) else data


def _encoded(variables: Mapping[str, object]) -> dict[bytes, bytes]:
    environ: Any = os.environ
    return {environ.encodekey(name): environ.encodevalue(str(value)) for name, value in variables.items()}
