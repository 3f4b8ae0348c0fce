from collections.abc import Sequence
from enum import Enum

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

class SpanExportResult(Enum):
    SUCCESS = 0

class SpanExporter:
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult: ...

class SimpleSpanProcessor(SpanProcessor):
    def __init__(self, span_exporter: SpanExporter) -> None: ...

class BatchSpanProcessor(SpanProcessor):
    def __init__(self, span_exporter: SpanExporter) -> None: ...
