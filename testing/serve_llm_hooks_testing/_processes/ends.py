"""Say in words how a process has ended."""

from __future__ import annotations

import os
import signal
from time import perf_counter, sleep
from typing import TYPE_CHECKING

from .channel import WITHOUT_CHANNEL

if TYPE_CHECKING:
    from pathlib import Path

    from .spawning import Template

_PATIENCE_S = 0.5
_DUMP_S = 2.0
_DUMP_BYTES = 8000


def how_it_ended(template: Template, process_id: int | None) -> str:
    """Return how a process has ended that says nothing any more. One that has only closed its channel is killed."""
    if process_id is None:
        return "could not be started (is there memory for it, and room for another process?)"
    code = template.exit_code(process_id, _PATIENCE_S)
    if code is None:
        template.kill(process_id)
    if code in (None, WITHOUT_CHANNEL):
        return "closed file descriptors that are not its own, and with them its connection to the test"
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def dump_of(process_id: int | None, file: Path) -> str:
    """Return what the threads of a process do that answers nothing. It needs not be able to run Python code."""
    if process_id is None:
        return "it had not begun"
    try:
        os.kill(process_id, signal.SIGUSR2)
    except OSError:
        return "it has ended"
    deadline_s = perf_counter() + _DUMP_S
    text, before = b"", b""
    while perf_counter() < deadline_s:
        before, text = text, file.read_bytes() if file.exists() else b""
        if text and text == before:
            break
        sleep(0.05)
    return text[:_DUMP_BYTES].decode(errors="replace").rstrip() or "it does not say"
