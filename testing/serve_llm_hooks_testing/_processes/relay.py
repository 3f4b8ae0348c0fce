"""Repeat in the test's process what another one prints, logs and warns of: pytest captures it there."""

from __future__ import annotations

import codecs
import copy
import io
import logging
import sys
import traceback
import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TextIO

from .channel import end_if_alone

if TYPE_CHECKING:
    from collections.abc import Callable

    from .channel import Channel


STREAMS: dict[Literal["stdout", "stderr"], int] = {"stdout": 1, "stderr": 2}
"""The streams that a program prints to, and their file descriptors."""


class Printed(NamedTuple):
    """Bytes that were written to ``sys.stdout`` or ``sys.stderr``."""

    stream: Literal["stdout", "stderr"]
    data: bytes


class Logged(NamedTuple):
    """The fields of a log record."""

    fields: dict[str, Any]


class Warned(NamedTuple):
    """A warning: its text, the class's module and name, and where it was."""

    text: str
    module: str
    name: str
    file: str
    line: int


# -- in the process ---------------------------------------------------------------------------------------------------


def relay_everything(channel: Channel) -> None:
    """Send what this process prints, logs and warns of through a channel, from now on."""
    for name, descriptor in STREAMS.items():
        setattr(sys, name, stream(partial(_print, channel, name), descriptor))
    logging.root.handlers[:] = [_LogHandler(channel)]

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        warned = Warned(str(message), category.__module__, category.__qualname__, filename, lineno)
        _send(channel, warned)

    warnings.showwarning = show


def _print(channel: Channel, name: Literal["stdout", "stderr"], data: bytes) -> None:
    _send(channel, Printed(name, data))


def _send(channel: Channel, message: object) -> None:
    try:
        channel.send(message)
    except OSError as error:
        end_if_alone(error, channel)
        raise


def stream(send: Callable[[bytes], None], descriptor: int) -> TextIO:
    """Return a stream of text that is sent line by line.

    Args:
        send: sends what is written.
        descriptor: for what writes past Python, such as a subprocess.
    """
    raw = _RawStream(send, descriptor)
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors="backslashreplace", line_buffering=True)


class _RawStream(io.RawIOBase):
    def __init__(self, send: Callable[[bytes], None], descriptor: int) -> None:
        self._send = send
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        self._send(bytes(data))
        return len(data)


class _LogHandler(logging.Handler):
    def __init__(self, channel: Channel) -> None:
        super().__init__()
        self._channel = channel

    def emit(self, record: logging.LogRecord) -> None:
        try:
            _send(self._channel, Logged(_plain(record)))
        except Exception:
            self.handleError(record)


def _plain(record: logging.LogRecord) -> dict[str, Any]:
    """Return a record's fields, as far as they are plain data."""
    plain = copy.copy(record)
    plain.msg, plain.args = record.getMessage(), None
    if record.exc_info:
        plain.exc_text = "".join(traceback.format_exception(*record.exc_info)).rstrip()
        plain.exc_info = None
    return {name: value for name, value in vars(plain).items() if _is_plain(value)}


def _is_plain(value: object) -> bool:
    """Return whether a value arrives anywhere: the test's process need not have a hook's classes."""
    if isinstance(value, list | tuple):
        return type(value) in (list, tuple) and all(map(_is_plain, value))
    if isinstance(value, dict):
        return type(value) is dict and all(map(_is_plain, value)) and all(map(_is_plain, value.values()))
    return value is None or type(value) in (str, bytes, int, float, bool)


# -- in the test's process --------------------------------------------------------------------------------------------


class Repeater:
    """Repeats what one process has printed, logged and warned of."""

    def __init__(self) -> None:
        self._decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
        self.refused: list[str] = []  # warnings that a filter of the test makes errors

    def repeat(self, message: Printed | Logged | Warned) -> None:
        """Repeat it here."""
        if isinstance(message, Printed):
            getattr(sys, message.stream).write(self._decoders[message.stream].decode(message.data))
        elif isinstance(message, Logged):
            logger = logging.getLogger(message.fields["name"])
            if logger.isEnabledFor(message.fields["levelno"]):
                logger.handle(logging.makeLogRecord(message.fields))
        else:
            self._warn(message)

    def _warn(self, warned: Warned) -> None:
        category = getattr(sys.modules.get(warned.module), warned.name, None)
        if not (isinstance(category, type) and issubclass(category, Warning)):
            category = UserWarning
        try:
            warnings.warn_explicit(warned.text, category, warned.file, warned.line, registry={})
        except Warning as error:
            self.refused.append(f"{type(error).__name__}: {error} ({warned.file}:{warned.line})")
