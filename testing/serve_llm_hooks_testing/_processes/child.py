"""Run a process that the template has forked: it gets its work, does it, and ends."""

from __future__ import annotations

import atexit
import os
import pickle
import socket
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from .channel import Broken, Channel, Replaced, Started, end_if_alone
from .coverage_data import measured
from .relay import relay_everything
from .replaced import replaced_elsewhere

if TYPE_CHECKING:
    from .replaced import Names
    from .surroundings import Surroundings


class Work(Protocol):
    """The work of a process."""

    def run(self, channel: Channel) -> None:
        """Do the work, and send ``Done`` with what it has come to."""
        ...


@dataclass(frozen=True)
class Job:
    """The first message to a process."""

    surroundings: Surroundings
    work: Work
    names: Names = field(default_factory=dict)  # of the test's process, to be compared with those here


def run_child(descriptor: int) -> None:
    """Do what this process is sent, and end it."""
    channel = Channel(socket.socket(fileno=descriptor))
    channel.send(Started(os.getpid()))
    try:
        job: Job = channel.receive()
    except (EOFError, OSError) as error:
        end_if_alone(error, channel)
        raise
    code = 1
    with measured(job.surroundings.measured):
        try:
            _do(job, channel)
            code = 0
        finally:
            _end()
    os._exit(code)


def _do(job: Job, channel: Channel) -> None:
    is_setup_done = False
    try:
        job.surroundings.apply()
        relay_everything(channel)
        if job.surroundings.setup is not None:
            pickle.loads(job.surroundings.setup)()
        is_setup_done = True
        job.work.run(channel)
        if replaced := replaced_elsewhere(job.names):
            channel.send(Replaced(tuple(replaced)))
    except BaseException as error:  # also SystemExit: nobody else would hear of it
        end_if_alone(error, channel)
        channel.send(Broken(traceback.format_exc(), not is_setup_done))


def _end() -> None:
    """Do what Python does when a program ends: wait for its threads, call what waits for the end."""
    with suppress(BaseException):
        threading._shutdown()  # type: ignore[attr-defined]  # as multiprocessing does it
    with suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()
