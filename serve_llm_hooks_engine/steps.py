"""Write down the steps of an engine's start as vLLM logs them, in the process that takes them."""

import contextlib
import logging
import os
import re
import sys
import time
from typing import TYPE_CHECKING

from .process_time import process_start_s

if TYPE_CHECKING:
    from types import FrameType

_TAG = r"(?:\[[^]]*\] )?"  # of one model of several, from vLLM 0.33 on
MARKS = (
    (re.compile(r"Loading weights took ([\d.]+) seconds"), "load weights"),
    (re.compile(r"Model loading took (?P<gib>[\d.]+) GiB(?: memory)? and ([\d.]+) seconds"), "load model"),
    (re.compile(_TAG + r"Directly load the compiled graph.* took ([\d.]+) s"), "load compiled"),
    (re.compile(_TAG + r"torch\.compile.* took ([\d.]+) s in total"), "compile"),
    (re.compile(_TAG + r"Initial profiling/warmup run took ([\d.]+) s"), "profile"),
    (re.compile(r"Graph capturing finished in ([\d.]+) secs"), "capture graphs"),
    (re.compile(r"init engine \(profile.*?\) took ([\d.]+) s"), "profile and warm up"),
)
"""The lines that vLLM logs when a step is over, with its seconds in their last group, and the step's name."""


def listen(folder: str) -> None:
    """Add a line to a file of this process for each step: when it began and ended, the process, the step.

    Only in the core of an engine and in its workers. Nothing of this can end a process.
    """
    process = _process()
    if not process or not os.path.isdir(folder):
        return
    listener = _Listener(os.path.join(folder, str(os.getpid())), process)
    logging.getLogger("vllm").addHandler(listener)
    now_s = time.time()
    with contextlib.suppress(OSError, ValueError, IndexError):  # no Linux
        listener.write(process_start_s(), now_s, "import")


class _Listener(logging.Handler):
    def __init__(self, path: str, process: str) -> None:
        super().__init__(logging.INFO)
        self.path = path
        self.process = process

    def emit(self, record: logging.LogRecord) -> None:
        """Write down a step that is over. Once nobody reads it any more, listen no longer."""
        try:
            if not os.path.isdir(os.path.dirname(self.path)):
                logging.getLogger("vllm").removeHandler(self)
                return
            text = record.getMessage()
            for mark, name in MARKS:
                if found := mark.match(text):
                    took_s = float(found[found.lastindex or 0])
                    self.write(record.created - took_s, record.created, name, found.groupdict().get("gib"))
        except Exception:  # the log of an engine is not worth its start
            return

    def write(self, start_s: float, end_s: float, name: str, gib: str | None = None) -> None:
        """Add a line."""
        size_bytes = "" if gib is None else str(int(float(gib) * 2**30))
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"{start_s!r}\t{end_s!r}\t{self.process}\t{name}\t{size_bytes}\n")


def _process() -> str:
    """Return which process of the engine this is, by who has vLLM load its plugins; empty for all others."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        name = frame.f_code.co_qualname if hasattr(frame.f_code, "co_qualname") else ""
        if name == "EngineCore.__init__":
            return "core"
        if name == "WorkerWrapperBase.init_worker":
            return f"worker-{getattr(frame.f_locals.get('self'), 'global_rank', 0)}"
        frame = frame.f_back
    return ""
