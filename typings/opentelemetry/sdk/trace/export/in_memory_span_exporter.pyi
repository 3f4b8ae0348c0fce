from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter

class InMemorySpanExporter(SpanExporter):
    def get_finished_spans(self) -> tuple[ReadableSpan, ...]: ...
