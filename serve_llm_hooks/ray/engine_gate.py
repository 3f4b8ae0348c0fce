"""Let the workers of an engine wait for what works in the background, and tell them when it is over.

On the replica's node by a file in the channel's folder, on which the replica holds a lock while it lives. On other
nodes by Ray's key-value store, where a number goes up while it lives. Workers only look: nobody is left waiting for a
replica that has been killed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .._core.messages import one_line
from . import key_value_store
from .locked_folder import is_locked

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine_channel import Channel

_FILE = "over"
_LOOK_S = 0.05  # how often a worker looks at the file
_LOOK_ELSEWHERE_S = 0.25  # and at Ray's store
_BEAT_S = 5.0
_SILENCE_S = 60.0  # without a beat, after which a replica on another node counts as gone

_GONE = "the replica that started this process is gone"
_PARENT_GONE = "the process that started this one has ended"


class Gate:
    """The gate as the replica sees it: closed until what works in the background is over, or has failed.

    Args:
        channel: the way to its engine's processes.
    """

    def __init__(self, channel: Channel) -> None:
        """Begin to count, where there is a Ray."""
        self._channel = channel
        self._failure: str | None = None  # None until it is over
        self._beats = 0
        self._closed = threading.Event()
        self._lock = threading.Lock()
        if key_value_store.is_connected():
            self._put()
            threading.Thread(target=self._beat, name="serve-llm-hooks beat", daemon=True).start()

    def open(self, failure: str) -> None:
        """Let the workers go on; never fails. The first failure counts."""
        with self._lock:
            if self._closed.is_set() or self._failure:
                return
            self._failure = failure
            with contextlib.suppress(OSError):  # the folder is gone, which a worker takes for the end of the start
                part = Path(self._channel.folder, f"{_FILE}.part")
                part.write_text(failure, encoding="utf-8")
                part.replace(part.with_suffix(""))
        if key_value_store.is_connected():
            self._put()

    def close(self) -> None:
        """Take away what is in Ray's store; never fails."""
        with self._lock:
            self._closed.set()
            if key_value_store.is_connected():
                with contextlib.suppress(Exception):  # Ray's own, of any kind: a key that stays does no harm
                    key_value_store.delete(_key(self._channel))

    def _beat(self) -> None:
        while not self._closed.wait(_BEAT_S):
            self._put()

    def _put(self) -> None:
        with self._lock, contextlib.suppress(Exception):  # of any kind: the next beat puts it
            if not self._closed.is_set():
                self._beats += 1
                key_value_store.put(_key(self._channel), pickle.dumps((self._beats, self._failure)))


def wait_at(channel: Channel) -> str:
    """Wait, in a worker, until the gate is open; return why the work in the background has failed, or an empty text."""
    look: Callable[[], str | None] = _Elsewhere(channel).look
    seconds = _LOOK_ELSEWHERE_S
    if os.path.isdir(channel.folder):
        look, seconds = (lambda: _look_at_file(channel.folder)), _LOOK_S
    parent = os.getppid()
    while True:
        if (found := look()) is not None:
            return found
        if os.getppid() != parent:
            return _PARENT_GONE
        time.sleep(seconds)


def _look_at_file(folder: str) -> str | None:
    """Return what the replica has said; ``None`` while it has not."""
    try:
        return Path(folder, _FILE).read_text(encoding="utf-8")
    except OSError:
        return None if is_locked(folder) else _GONE


class _Elsewhere:
    """A worker on another node than its replica's."""

    def __init__(self, channel: Channel) -> None:
        self._key = _key(channel)
        self._beats = 0
        self._heard_s = time.monotonic()

    def look(self) -> str | None:
        """Return what the replica has said; ``None`` while it has not."""
        if not key_value_store.is_connected():
            return "this process has no folder of its replica, and is not connected to Ray: nobody can tell it"
        try:
            data = key_value_store.get(self._key)
        except Exception as error:  # Ray's own, of any kind: it may be back before the silence is too long
            return self._silent(one_line(error))
        if data is None:
            return _GONE if self._beats else self._silent("it has said nothing yet")
        beats, failure = pickle.loads(data)
        if failure is not None:
            return str(failure)
        if beats != self._beats:
            self._beats, self._heard_s = beats, time.monotonic()
        return self._silent(f"it has said nothing for {_SILENCE_S:g} s")

    def _silent(self, why: str) -> str | None:
        return f"{_GONE}: {why}" if time.monotonic() - self._heard_s > _SILENCE_S else None


def _key(channel: Channel) -> str:
    return f"gate-{channel.key}"
