"""Hooks of a start that is traced, and what Ray calls in each process to have it traced into a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

from serve_llm_hooks import CallbackCtx, NodeCtx, hook

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan


class _ToFile(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with open(os.environ["TEST_SPANS"], "a", encoding="utf-8") as file:
            file.writelines(f"{span.to_json(indent=None)}\n" for span in spans)
        return SpanExportResult.SUCCESS


def set_up() -> None:
    """Give this process a tracer provider."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(_ToFile()))
    trace.set_tracer_provider(provider)


@hook("on_before_init")
def in_the_replica(ctx: CallbackCtx) -> None: ...


@hook("on_before_node_download")
def on_the_node(ctx: NodeCtx) -> None: ...
