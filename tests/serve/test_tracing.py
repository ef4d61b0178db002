"""Spans of requests: their parent is the caller's, their attributes those of the answer; none without a collector."""

from typing import Any

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from serve.api import build_api
from serve.metrics import Metrics
from serve.service import Service
from serve.settings import LimitSettings
from serve.tracing import ENDPOINTS, Tracing

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_request_is_a_span_below_that_of_its_caller(service: Service, metrics: Metrics) -> None:
    exporter = InMemorySpanExporter()
    with TestClient(
        build_api(service, metrics, LimitSettings(), tracing=Tracing(exporter)), base_url="http://localhost"
    ) as client:
        headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "x-request-id": "r1"}
        client.post("/v1/search", json={"query": "a private lamp"}, headers=headers)
        client.post("/v1/search", json={"query": ""})
        client.get("/a/private/path")
    spans: Any = exporter.get_finished_spans()
    assert [span.name for span in spans] == ["POST /v1/search", "POST /v1/search", "GET other"]
    first = spans[0]
    assert f"{first.context.trace_id:032x}" == TRACE
    assert f"{first.parent.span_id:016x}" == SPAN
    assert first.attributes["http.response.status_code"] == 200
    assert first.attributes["request.id"] == "r1"
    assert spans[1].parent is None
    assert spans[1].attributes["http.response.status_code"] == 422
    assert "private" not in " ".join(span.to_json() for span in spans)


@pytest.mark.parametrize("given", ["", "nonsense", "00-zz-zz-01"])
def test_a_parent_that_is_none_is_left_out(service: Service, metrics: Metrics, given: str) -> None:
    exporter = InMemorySpanExporter()
    with TestClient(
        build_api(service, metrics, LimitSettings(), tracing=Tracing(exporter)), base_url="http://localhost"
    ) as client:
        assert client.get("/healthz", headers={"traceparent": given}).status_code == 200
    [span] = exporter.get_finished_spans()
    assert span.parent is None


def test_without_a_collector_nothing_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ENDPOINTS:
        monkeypatch.delenv(name, raising=False)
    tracing = Tracing()
    with tracing.request("GET", "/", {}) as attributes:
        attributes["a"] = 1
    assert tracing._tracer is None
    tracing.close()
