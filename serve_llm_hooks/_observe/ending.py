"""``tell_end``: when a start is over, tell what it did: log, metrics, spans, and ``SERVE_LLM_HOOKS_TRACE_DIR``."""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import re
import threading
import time
from datetime import UTC, datetime
from functools import partial
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .._core.messages import one_line
from .._core.named_tuple import NamedTuple
from .summary import summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .._core.trace import Trace
    from .measures import Writer
    from .spans import Spans

logger: logging.Logger = logging.getLogger("serve_llm_hooks")

TRACE_DIR = "SERVE_LLM_HOOKS_TRACE_DIR"
_WAIT_S = 5.0  # how long the error of a failed start, and the end of the process, wait for what is told
_WAIT_AT_SHUTDOWN_S = 1.0  # of the time that Serve gives a replica for its end
_LONGEST_PART = 60
_naming = threading.Lock()  # names of two processes differ


class Teller(Protocol):
    """The part of a cluster that what a start did is told to."""

    @property
    def epoch_s(self) -> float | None:
        """``None`` where times are those of the system's clock."""
        ...

    def replica_names(self) -> Sequence[str]:
        """Return the names of the application, the deployment and the replica; nothing without Serve."""
        ...

    def metrics_writer(self) -> Writer | None:
        """Return what writes metrics; ``None`` where there are none."""
        ...


def tell_end(model_id: str, trace: Trace, teller: Teller, spans: Spans, error: BaseException | None) -> None:
    """Tell what a start did, each in the ways that are wished for. Nothing of this can end a start.

    All but the log is told in threads: a disk may hang, and a start has no time. After a failed start they are waited
    for, within a limit: Serve is about to kill the process.

    Args:
        model_id: the model.
        trace: the start's.
        teller: the cluster.
        spans: those of the replica.
        error: what ended the start, if it has failed.
    """
    with contextlib.suppress(Exception):  # a log handler that fails
        if block := summary(model_id, trace):
            logger.info("%s", block)
    given = os.environ.get(TRACE_DIR)
    write = teller.metrics_writer()
    with_spans = _takes_spans(teller, spans)
    ways: list[_Way] = []
    names = teller.replica_names() if given or write or with_spans else ()
    if write:
        ways.append(_way("metrics", partial(write, model_id, names, trace.events, trace.steps), model_id))
    if with_spans:
        why = "" if error is None else one_line(error)
        tell = partial(spans.tell_start, model_id, names, trace.events, trace.steps, why)
        ways.append(_way("spans", tell, model_id))
    if given:
        folder = _absolute(given, model_id)
        save = partial(_save, folder, model_id, trace, names)
        ways.append(_Way("saves a trace", save, partial(_warn, model_id, folder)))
    _tell(ways, 0.0 if error is None else _WAIT_S)


def tell_shutdown(model_id: str, trace: Trace, teller: Teller, spans: Spans, since: int) -> None:
    """Add what ran when the replica was shut down to the metrics and the spans.

    Args:
        model_id: the model.
        trace: the trace of the start.
        teller: the cluster.
        spans: those of the replica.
        since: how many events the trace had before.
    """
    events = trace.events[since:]
    write = teller.metrics_writer()
    with_spans = _takes_spans(teller, spans)
    if not events or not (write or with_spans):
        return
    names = teller.replica_names()
    ways: list[_Way] = []
    if write:
        ways.append(_way("metrics", partial(write, model_id, names, events, ()), model_id))
    if with_spans:
        ways.append(_way("spans", partial(spans.tell_end, model_id, names, events), model_id))
    _tell(ways, _WAIT_AT_SHUTDOWN_S)


def _takes_spans(teller: Teller, spans: Spans) -> bool:
    return teller.epoch_s is None and spans.are_wanted  # a virtual time is nothing for a collector


class _Way(NamedTuple):
    """One way to tell: what its thread is called, what it does, and what says why that came to nothing."""

    name: str
    tell: Callable[[], object]
    warn: Callable[[str], object]


def _way(what: str, tell: Callable[[], object], model_id: str) -> _Way:
    """Return a way to tell that warns where it fails."""

    def warn(why: str) -> None:
        with contextlib.suppress(Exception):
            logger.warning("model %r: what it did is not in the %s: %s", model_id, what, why)

    def tell_or_warn() -> None:
        try:
            tell()
        except Exception as error:
            warn(one_line(error))

    return _Way(f"writes {what}", tell_or_warn, warn)


def _tell(ways: Iterable[_Way], wait_s: float) -> None:
    """Start a thread for each, and wait for them so many seconds, or until they are done when the process ends.

    They begin when all of them are there: a thread that begins at once keeps the interpreter from who has started it.
    """
    begun: list[tuple[threading.Thread, _Way]] = []
    begin = threading.Event()

    def tell(way: _Way) -> None:
        begin.wait()
        way.tell()

    for way in ways:
        thread = threading.Thread(target=tell, args=(way,), name=f"serve-llm-hooks {way.name}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # no thread can be had
            way.warn(one_line(error))
        else:
            begun.append((thread, way))
    begin.set()
    if not wait_s:
        for thread, _ in begun:
            atexit.register(thread.join, _WAIT_S)
        return
    end_s = time.monotonic() + wait_s
    for thread, way in begun:
        thread.join(max(0.0, end_s - time.monotonic()))
        if thread.is_alive():
            way.warn(f"it has taken more than {wait_s:g} s, and is waited for no longer")


def _absolute(given: str, model_id: str) -> Path:
    """Return the folder; of a relative one, say where it is: Ray gives each replica a working directory of its own."""
    folder = Path(os.path.expanduser(given))
    if folder.is_absolute():
        return folder
    with contextlib.suppress(Exception):
        folder = Path(os.path.abspath(folder))
        logger.warning(
            "model %r: %s=%s is relative to the replica's working directory, and so is %s, which Ray may remove: write "
            "an absolute path",
            model_id,
            TRACE_DIR,
            given,
            folder,
        )
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
