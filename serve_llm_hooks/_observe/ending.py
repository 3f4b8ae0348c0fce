"""``tell_end``: when a start is over, show what it did: in the log, and in ``SERVE_LLM_HOOKS_TRACE_DIR``."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import threading
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from .._core.messages import one_line
from .summary import summary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .._core.trace import Trace

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

TRACE_DIR = "SERVE_LLM_HOOKS_TRACE_DIR"
_WAIT_S = 5.0  # how long the error of a failed start, and the end of the process, wait for the files
_LONGEST_PART = 60
_naming = threading.Lock()  # names of two processes differ


def tell_end(model_id: str, trace: Trace, replica_names: Callable[[], Sequence[str]], *, failed: bool) -> None:
    """Log what a start did, and save it where that is wished for. Nothing of this can end a start.

    The files are written in a thread, since their disk may hang. After a failed start it is waited for, within a limit:
    Serve is about to kill the process.

    Args:
        model_id: the model.
        trace: the start's.
        replica_names: returns the names of its application, deployment and replica; nothing without Serve.
        failed: whether the start has failed.
    """
    with contextlib.suppress(Exception):  # a log handler that fails
        if block := summary(model_id, trace):
            logger.info("%s", block)
    given = os.environ.get(TRACE_DIR)
    if not given:
        return
    folder = _absolute(given, model_id)
    save = partial(_save, folder, model_id, trace, replica_names())
    thread = threading.Thread(target=save, name="serve-llm-hooks saves a trace", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # no thread can be had
        _warn(model_id, folder, one_line(error))
        return
    if not failed:
        atexit.register(thread.join, _WAIT_S)
        return
    thread.join(_WAIT_S)
    if thread.is_alive():
        _warn(model_id, folder, f"it has taken more than {_WAIT_S:g} s, and is waited for no longer")


def _absolute(given: str, model_id: str) -> Path:
    """Return the folder; of a relative one, say where it is: Ray gives each replica a working directory of its own."""
    folder = Path(os.path.expanduser(given))
    if folder.is_absolute():
        return folder
    with contextlib.suppress(Exception):
        folder = Path(os.path.abspath(folder))
        logger.warning(
            "model %r: %s=%s is relative to the replica's working directory, and so is %s, which Ray may remove: write "
            "an absolute path", model_id, TRACE_DIR, given, folder,
        )  # fmt: skip
    return folder


def _warn(model_id: str, folder: Path | str, why: str) -> None:
    with contextlib.suppress(Exception):
        logger.warning("model %r: its start cannot be saved in %s=%s: %s", model_id, TRACE_DIR, folder, why)


def _save(folder: Path, model_id: str, trace: Trace, replica: Sequence[str]) -> None:
    """Write both files, or warn. What only this needs is imported here: a start has no time for it."""
    try:
        import json

        from .._core.bars import bars_of
        from .._core.picture import page_of, svg_of
        from .._core.saved_trace import IN_CHROME, dump_traces
        from .chrome import chrome_trace

        events, steps = trace.events, trace.steps
        starts_s = [*(event.start_s for event in events), *(step.start_s for step in steps)]
        begin_s = min(starts_s, default=0.0)
        begun = datetime.fromtimestamp(begin_s, UTC)
        bars = bars_of(events, steps)
        saved = json.loads(dump_traces({model_id: trace}))
        when = f"{begun:%Y%m%dT%H%M%S}.{begun.microsecond // 1000:03}Z"
        names = [*(replica or (model_id, str(trace.process_id))), when]
        name = "-".join(re.sub(r"[^A-Za-z0-9._]+", "_", part)[:_LONGEST_PART] for part in names)
        document = {"displayTimeUnit": "ms", "traceEvents": chrome_trace(bars, begin_s), IN_CHROME: saved}
        lines = [f"{' · '.join(replica)} · {begun:%Y-%m-%d %H:%M:%S} UTC".removeprefix(" · "), *_head(model_id, trace)]
        page = page_of(f"The start of {model_id}", lines, svg_of(bars), json.dumps(saved))
        folder.mkdir(parents=True, exist_ok=True)
        written = _write(folder, name, ".json", json.dumps(document))
        written_page = _write(folder, name, ".html", page)
        logger.info("model %r: the start is saved in %s and %s", model_id, written, written_page)
    except Exception as error:
        _warn(model_id, folder, one_line(error))


def _head(model_id: str, trace: Trace) -> list[str]:
    return summary(model_id, trace).splitlines()[:1]


def _write(folder: Path, name: str, ending: str, text: str) -> Path:
    """Write a new file, whole or not at all, and return its path."""
    aside = folder / f".{name}{ending}.{os.getpid()}-{threading.get_ident()}"
    try:
        aside.write_bytes(text.encode("utf-8", "xmlcharrefreplace"))
        with _naming:
            paths = (folder / f"{name}{'' if number == 1 else f'-{number}'}{ending}" for number in count(1))
            path = next(path for path in paths if not path.exists())
            return aside.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)
        raise
