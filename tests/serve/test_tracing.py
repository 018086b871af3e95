"""A span a request, in the client's trace, without its text; and nothing where OpenTelemetry is not."""

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from albert_runtime import InputError
from albert_runtime.serve import tracing
from albert_runtime.serve.limits import ServerLimits
from albert_runtime.serve.models import Models
from albert_runtime.serve.service import Service

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def spans(monkeypatch):
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    return exporter.get_finished_spans


@pytest.fixture
def service(artifacts):
    models = Models(ServerLimits())
    models.add(str(artifacts["sentiment"]))

    async def load():
        service = Service(models, ServerLimits())
        await service.loader.start()
        return service

    found = asyncio.run(load())
    yield found
    models.close()


def test_a_span_continues_the_clients_trace(spans, service):
    with service.admit("v2", {"traceparent": PARENT}) as active:
        active.model = service.models.find()
    (span,) = spans()
    assert f"{span.context.trace_id:032x}" == PARENT.split("-")[1]
    assert f"{span.parent.span_id:016x}" == PARENT.split("-")[2]
    assert span.name == "albert v2" and span.kind == trace.SpanKind.SERVER
    assert dict(span.attributes) == {"albert.outcome": "ok", "albert.model": "sentiment"}


@pytest.mark.parametrize(
    ("error", "outcome", "failed"),
    [(InputError("secret text"), "invalid", False), (ZeroDivisionError("secret text"), "internal", True)],
)
def test_errors_tell_no_text(spans, service, error, outcome, failed):
    with pytest.raises(type(error)), service.admit("predict", {}):
        raise error
    (span,) = spans()
    assert span.attributes["albert.outcome"] == outcome and span.parent is None
    assert (span.status.status_code == trace.StatusCode.ERROR) == failed
    assert "secret" not in span.to_json()


def test_without_opentelemetry(monkeypatch, spans, service):
    monkeypatch.setattr(tracing, "trace", None)
    with service.admit("v2", {}):
        pass
    assert spans() == ()
