"""Spans of requests for OpenTelemetry, where its API is installed and a provider set; nothing elsewhere.

`opentelemetry-instrument albert-serve ...` sets one. A span continues the trace that the client's headers
name (W3C trace context); it holds no text.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

try:
    from opentelemetry import propagate, trace
except ImportError:  # an option of the user's
    trace = None

from .errors import Outcome

End = Callable[[str | None, Outcome], None]


@contextmanager
def span(api: str, headers: Mapping[str, str]) -> Iterator[End]:
    """A span around a request; call what it gives with the model's name and how the request ended."""
    if trace is None:
        yield lambda model, outcome: None
        return
    tracer: Any = trace.get_tracer("albert_serve")
    with tracer.start_as_current_span(
        f"albert {api}",
        context=propagate.extract(headers),
        kind=trace.SpanKind.SERVER,
        record_exception=False,  # its message may hold what the client sent
        set_status_on_exception=False,
    ) as current:

        def end(model: str | None, outcome: Outcome) -> None:
            current.set_attribute("albert.outcome", outcome.name)
            if model is not None:
                current.set_attribute("albert.model", model)
            if outcome.status >= 500:
                current.set_status(trace.StatusCode.ERROR, outcome.name)

        yield end
