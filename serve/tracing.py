"""OpenTelemetry traces, where `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector; nothing is imported without it.

A request is a span, a child of the caller's where the request carries `traceparent`. The endpoint and all else are set
by OpenTelemetry's own variables (`OTEL_SERVICE_NAME`, `OTEL_TRACES_SAMPLER`, ...).
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from raylevance.errors import UsageError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")


class Tracing:
    """The spans of the requests of a replica."""

    def __init__(self, exporter: Any = None) -> None:
        """Export to `exporter`, by default over OTLP to the collector that the environment names, if it does.

        Raises `UsageError` where it names one and OpenTelemetry's exporter is not installed.
        """
        self._tracer: Any = None
        if exporter is None and not any(map(os.environ.get, ENDPOINTS)):
            return
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError:
            raise UsageError(f"{ENDPOINTS[0]} is set: install raylevance[tracing] to send traces") from None
        os.environ.setdefault("OTEL_SERVICE_NAME", "raylevance")
        self._provider = TracerProvider(resource=Resource.create())
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("raylevance.serve")

    @contextmanager
    def request(self, method: str, route: str, headers: Mapping[bytes, bytes]) -> Iterator[dict[str, Any]]:
        """Trace a request. The attributes that are put into the dictionary are those of its span."""
        attributes: dict[str, Any] = {}
        if self._tracer is None:
            yield attributes
            return
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        given = headers.get(b"traceparent", b"").decode("latin-1")
        parent = TraceContextTextMapPropagator().extract({"traceparent": given})
        with self._tracer.start_as_current_span(f"{method} {route}", parent, SpanKind.SERVER) as span:
            try:
                yield attributes
            finally:
                span.set_attributes(attributes)

    def close(self) -> None:
        """Send the spans that wait."""
        if self._tracer is not None:
            self._provider.shutdown()
