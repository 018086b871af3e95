"""OpenTelemetry spans for requests, where its API is installed and a provider is set; otherwise nothing.

`opentelemetry-instrument albert-serve ...` sets one. A span continues the trace named in the client's headers
(W3C trace context). It holds no text.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import propagate, trace
except ImportError:  # optional
    trace = None

from .errors import Outcome

EndSpan = Callable[[str | None, Outcome], None]


@contextmanager
def span(api: str, headers: Mapping[str, str]) -> Iterator[EndSpan]:
    """Open a span for a request; call what it yields with the model's label and the outcome."""
    if trace is None:
        yield lambda model, outcome: None
        return
    tracer: Any = trace.get_tracer("albert_serve")
    with tracer.start_as_current_span(
        f"albert {api}",
        context=propagate.extract(headers),
        kind=trace.SpanKind.SERVER,
        record_exception=False,  # its message may quote what the client sent
        set_status_on_exception=False,
    ) as current:

        def end_span(model: str | None, outcome: Outcome) -> None:
            current.set_attribute("albert.outcome", outcome.name)
            if model is not None:
                current.set_attribute("albert.model", model)
            if outcome.status >= 500:
                current.set_status(trace.StatusCode.ERROR, outcome.name)

        yield end_span
