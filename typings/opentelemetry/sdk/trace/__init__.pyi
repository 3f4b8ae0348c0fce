from collections.abc import Mapping, Sequence

from opentelemetry import trace

class ReadableSpan:
    name: str
    context: trace.SpanContext
    parent: trace.SpanContext | None
    start_time: int
    end_time: int
    status: trace.Status
    attributes: Mapping[str, str | int]
    links: Sequence[trace.Link]
    def to_json(self, indent: int | None = ...) -> str: ...

class SpanProcessor: ...

class TracerProvider(trace.TracerProvider):
    def __init__(self, sampler: object = ...) -> None: ...
    def add_span_processor(self, span_processor: SpanProcessor) -> None: ...
    def force_flush(self, timeout_millis: int = ...) -> bool: ...
