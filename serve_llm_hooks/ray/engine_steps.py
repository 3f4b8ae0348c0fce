"""Hear of the steps that the engine's own processes take while it starts, as vLLM logs them there."""

from __future__ import annotations

import contextlib
import logging
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .._core.event import StartStep
from .._core.messages import one_line
from .locked_folder import make_folder, remove_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .._core.trace import Trace

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

VARIABLE = "SERVE_LLM_HOOKS_ENGINE_STEPS"  # as in serve_llm_hooks_engine, which imports nothing of this


@contextmanager
def steps_in(trace: Trace) -> Iterator[None]:
    """Add to a trace what the processes of this node do for an engine that is started inside the ``with`` block."""
    folder = ""
    with contextlib.suppress(OSError):  # no room: the start is worth more
        folder = os.environ[VARIABLE] = make_folder()
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if folder:
            try:
                trace.steps += tuple(_read(Path(folder), trace))
            except Exception as error:
                logger.debug("the steps of the engine's processes cannot be read: %s", one_line(error))
            remove_folder(folder)


def _read(folder: Path, trace: Trace) -> Iterator[StartStep]:
    node_id, address, hostname = trace.node
    for file in sorted(folder.iterdir()):
        if not file.name.isdigit():  # the lock
            continue
        for line in file.read_text(encoding="utf-8").splitlines():
            start_s, end_s, process, name, size_bytes = line.split("\t")
            yield StartStep(
                name,
                node_id,
                int(file.name),
                float(start_s),
                float(end_s),
                size_bytes=int(size_bytes) if size_bytes else None,
                address=address,
                hostname=hostname,
                process=process,
            )
