from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import Enum

from opentelemetry.context import Context

class TraceFlags(int):
    @property
    def sampled(self) -> bool: ...

class SpanContext:
    trace_id: int
    span_id: int
    trace_flags: TraceFlags
    is_valid: bool

class StatusCode(Enum):
    UNSET = 0
    OK = 1
    ERROR = 2

class Status:
    status_code: StatusCode
    description: str | None

class Link:
    context: SpanContext
    def __init__(self, context: SpanContext) -> None: ...

class Span:
    def get_span_context(self) -> SpanContext: ...
    def is_recording(self) -> bool: ...
    def set_status(self, status: StatusCode, description: str | None = ...) -> None: ...
    def end(self, end_time: int | None = ...) -> None: ...

class NonRecordingSpan(Span):
    def __init__(self, context: SpanContext) -> None: ...

class Tracer:
    def start_span(
        self,
        name: str,
        context: Context | None = ...,
        *,
        attributes: Mapping[str, str | int] | None = ...,
        links: Sequence[Link] | None = ...,
        start_time: int | None = ...,
    ) -> Span: ...
    def start_as_current_span(self, name: str) -> AbstractContextManager[Span]: ...

class TracerProvider:
    def get_tracer(self, name: str) -> Tracer: ...

def get_tracer(name: str) -> Tracer: ...
def get_tracer_provider() -> TracerProvider: ...
def set_tracer_provider(tracer_provider: TracerProvider) -> None: ...
def set_span_in_context(span: Span, context: Context | None = ...) -> Context: ...
