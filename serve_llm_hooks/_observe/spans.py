"""``Spans``: what a replica did, as OpenTelemetry's spans, where its process has a tracer provider.

Nothing of OpenTelemetry is imported here: where nobody else has, there is no provider, and nothing to do.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from .._core.event import HookEvent, StartStep
    from .parts import Part

_SCOPE = "serve_llm_hooks"
_FLUSH_MS = 4000  # less than what waits for it
_NAMES = ("application", "deployment", "replica")


class Spans:
    """The spans of one replica: of its start, and of its end. The span that is current now is the parent of the start.

    They are made when all is over, with the times of then, so a start pays nothing for them.
    """

    def __init__(self) -> None:
        self._parent: Any = None
        self._start: Any = None
        trace = sys.modules.get("opentelemetry.trace")
        if trace is not None:
            try:
                self._parent = trace.get_current_span().get_span_context()
            except Exception:  # a module that is being imported
                self._parent = None

    @property
    def are_wanted(self) -> bool:
        """``True`` if this process has a tracer provider."""
        trace = sys.modules.get("opentelemetry.trace")
        try:
            return trace is not None and not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        except Exception:  # what the environment names cannot be loaded
            return False

    def tell_start(
        self,
        model_id: str,
        names: Sequence[str],
        events: Iterable[HookEvent],
        steps: Sequence[StartStep],
        why: str,
    ) -> None:
        """Make the spans of a start.

        Args:
            model_id: the model.
            names: of its application, deployment and replica.
            events: what hooks did.
            steps: the other steps.
            why: the error in one line that ended the start; empty for a good one.
        """
        from .parts import parts_of  # as all that is imported here, where somebody wants it

        part = parts_of("start", events, steps, why)
        if part is not None:
            self._start = _made(part, _attributes(model_id, names), self._parent, ())
            if why:
                _flush()

    def tell_end(self, model_id: str, names: Sequence[str], events: Iterable[HookEvent]) -> None:
        """Make the spans of a replica's end: a trace of its own, with a link to the start."""
        from .parts import parts_of

        part = parts_of("shutdown", events, ())
        if part is not None:
            _made(part, _attributes(model_id, names), None, () if self._start is None else (self._start,))
            _flush()


def _attributes(model_id: str, names: Sequence[str]) -> dict[str, str]:
    told = {"model": model_id, **dict(zip(_NAMES, names, strict=False))}
    return {f"{_SCOPE}.{key}": value for key, value in told.items()}


def _made(whole: Part, attributes: Mapping[str, str], parent: Any, links: Iterable[Any]) -> Any:
    """Make the spans of all parts; return the context of the outermost, ``None`` if it is not sampled."""
    from opentelemetry import trace
    from opentelemetry.context import Context

    tracer = trace.get_tracer(_SCOPE)

    def make(part: Part, context: Context, links: Sequence[trace.Link] = ()) -> trace.Span:
        span = tracer.start_span(
            part.name,
            context,
            attributes={**attributes, **part.attributes},
            links=links,
            start_time=_ns(part.start_s),
        )
        if part.failed:
            span.set_status(trace.StatusCode.ERROR, part.why or None)
        if span.is_recording():
            around = trace.set_span_in_context(span, Context())
            for each in part.inside:
                make(each, around)
        span.end(_ns(part.end_s))
        return span

    around = Context()
    if parent is not None and parent.is_valid:
        around = trace.set_span_in_context(trace.NonRecordingSpan(parent), around)
    context = make(whole, around, [trace.Link(each) for each in links]).get_span_context()
    return context if context.trace_flags.sampled else None


def _flush() -> None:
    """Send what is made: the process ends within moments, and asks nobody."""
    from opentelemetry import trace

    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush(_FLUSH_MS)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
