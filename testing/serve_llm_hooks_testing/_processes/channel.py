"""A channel between the test's process and one that it started: messages, pickled, over a pair of sockets."""

from __future__ import annotations

import os
import pickle
import struct
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import socket

_LENGTH = struct.Struct("<Q")
_CHUNK = 1 << 18
WITHOUT_CHANNEL = 79
"""The exit code of a process that has lost its channel."""


class Started(NamedTuple):
    """The process has begun, with this id."""

    process_id: int


class Idle(NamedTuple):
    """The process can do nothing more at this moment of virtual time.

    Attributes:
        next_s: when it has something to do; ``None``: only when somebody sends it something.
        posts: what it has for others.
        waiting: what it waits for, in words.
    """

    next_s: float | None
    posts: tuple[Any, ...]
    waiting: str


class Post(NamedTuple):
    """Something for another process, which gets it even if this one is killed before it is idle."""

    content: Any


class Go(NamedTuple):
    """The process goes on, at this virtual time, with what others sent it.

    Attributes:
        deadlock: nobody ever will; the message.
    """

    now_s: float
    inbox: tuple[Any, ...] = ()
    deadlock: str = ""


class Done(NamedTuple):
    """The process has done its work. All that it still does is to end."""

    result: Any


class Replaced(NamedTuple):
    """Names in modules that the test has replaced in its own process, and that are not replaced here."""

    names: tuple[str, ...]


class Broken(NamedTuple):
    """The process could not do its work: this code, or the test's ``setup``, has failed there."""

    traceback: str
    in_setup: bool


class Channel:
    """One end of a channel. Several threads may send, one receives."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._stat = os.fstat(end.fileno())
        self._received = bytearray()
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Return the file descriptor, for selectors."""
        return self._socket.fileno()

    def send(self, message: object) -> None:
        """Send a message.

        Raises:
            OSError: the other side has gone.
        """
        data = pickle.dumps(message)
        with self._sending:
            self._socket.sendall(_LENGTH.pack(len(data)))
            self._socket.sendall(data)

    def receive(self) -> Any:
        """Wait for a message.

        Raises:
            EOFError: the other side has gone.
        """
        while not self.has_message():
            if not self.read():
                raise EOFError
        return self.take()

    def read(self) -> bool:
        """Read what is there, and wait until something is. Return ``False`` when the other side has gone."""
        try:
            data = self._socket.recv(_CHUNK)
        except ConnectionError:
            return False
        self._received += data
        return bool(data)

    def has_message(self) -> bool:
        """Return whether a whole message has been read."""
        received = self._received
        return len(received) >= _LENGTH.size and len(received) >= _LENGTH.size + _LENGTH.unpack_from(received)[0]

    def take(self) -> Any:
        """Return the first message that has been read."""
        end = _LENGTH.size + _LENGTH.unpack_from(self._received)[0]
        message = pickle.loads(memoryview(self._received)[_LENGTH.size : end].tobytes())
        del self._received[:end]
        return message

    def is_usable(self) -> bool:
        """Return whether this end is still what it was, and no hook has closed it."""
        try:
            return os.path.samestat(os.fstat(self._socket.fileno()), self._stat)
        except OSError:
            return False

    def close(self) -> None:
        """Close this end."""
        self._socket.close()


def end_if_alone(error: BaseException, channel: Channel) -> None:
    """End this process where its channel is of no use any more: nobody hears what it does."""
    if isinstance(error, EOFError | ConnectionError) or not channel.is_usable():
        os._exit(WITHOUT_CHANNEL)
